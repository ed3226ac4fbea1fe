"""Plain English words for tasks about letters and lists."""


def words(text: str) -> tuple[str, ...]:
    """Return the words of `text`, which stands for a long tuple of short strings."""
    return tuple(text.split())


SHORT_WORDS = words(
    "cat dog sun map red box pen cup hat bus key egg ice jam leg net oil pig rat sky tea van web zoo fish bird "
    "tree moon star book milk rain snow wind fire ship king ring song lamp door hand foot nose road leaf"
)
COMMON_WORDS = words(
    "apple bread chair dance eagle flame grape house island juice knife lemon mouse night ocean paper queen river "
    "stone table umbrella village window yellow zebra garden market pencil rocket silver ticket bridge candle "
    "dragon forest guitar hammer jacket kitchen ladder monkey needle orange pillow rabbit school tunnel winter "
    "basket button castle dollar engine farmer finger flower hunter insect jungle letter mirror number"
)
LONG_WORDS = words(
    "elephant mountain notebook calendar dinosaur hospital keyboard language medicine neighbor painting question "
    "sandwich triangle universe vacation adventure butterfly chocolate dangerous education furniture generation "
    "happiness important knowledge lightning newspaper orchestra passenger restaurant strawberry technology"
)
PEOPLE = words(
    "Anna Ben Clara David Emma Felix Grace Henry Irene Jack Karen Leo Maria Nina Oscar Paula Quentin Rosa Sam Tina "
    "Victor Wendy Yusuf Zoe Amir Bella Carlos Dina Erik Fatima George Hanna Ivan Julia Kofi Lucy Marco Noor"
)
CITIES = words(
    "Paris London Berlin Madrid Rome Vienna Oslo Dublin Lisbon Prague Boston Chicago Seattle Toronto Sydney Tokyo "
    "Mumbai Nairobi Cairo Lima Denver Austin Geneva Hamburg Porto Krakow Bristol Leeds"
)
JOBS = words(
    "teacher nurse surgeon farmer pilot baker lawyer dentist carpenter journalist librarian chef plumber painter "
    "gardener photographer"
)
OBJECTS = words("apples books pencils marbles stickers cookies coins cards shells balloons tickets eggs")
