"""Sentences to change, phrases to translate and to repeat, easy ones first."""

_CHANGES = """
past|She walks to school.|She walked to school.
past|I play with my dog.|I played with my dog.
past|They live in London.|They lived in London.
past|He opens the door.|He opened the door.
past|We watch a film.|We watched a film.
past|I am tired.|I was tired.
past|The cat sleeps on the sofa.|The cat slept on the sofa.
past|She goes to the market.|She went to the market.
past|They are happy.|They were happy.
past|He eats an apple.|He ate an apple.
past|We have a big garden.|We had a big garden.
past|I see a bird in the tree.|I saw a bird in the tree.
past|My brother buys a car.|My brother bought a car.
past|The teacher writes on the board.|The teacher wrote on the board.
past|She brings flowers and sings a song.|She brought flowers and sang a song.
future|I call my mother.|I will call my mother.|I'll call my mother.
future|She travels to Spain.|She will travel to Spain.|She'll travel to Spain.
future|They play football.|They will play football.|They'll play football.
future|We are late.|We will be late.|We'll be late.
future|He works in the garden.|He will work in the garden.|He'll work in the garden.
spelling|I recieved your letter.|I received your letter.
spelling|Teh dog is black.|The dog is black.
spelling|She is my freind.|She is my friend.
spelling|We will meet tommorow.|We will meet tomorrow.
spelling|I definately like it.|I definitely like it.
spelling|He has a beautifull house.|He has a beautiful house.
spelling|It happend yesterday.|It happened yesterday.
spelling|I beleive you.|I believe you.
spelling|The resturant is open.|The restaurant is open.
spelling|Please seperate the two groups.|Please separate the two groups.
spelling|They are untill now my neigbours.|They are until now my neighbours.|They are until now my neighbors.
grammar|She don't like apples.|She doesn't like apples.|She does not like apples.
grammar|He go to work every day.|He goes to work every day.
grammar|They was late.|They were late.
grammar|I has two brothers.|I have two brothers.
grammar|We is ready.|We are ready.
grammar|I am go home.|I am going home.
grammar|Me and him are friends.|He and I are friends.
grammar|She can sings well.|She can sing well.
grammar|There is many books.|There are many books.
grammar|He didn't went there.|He didn't go there.|He did not go there.
grammar|I have saw that movie.|I have seen that movie.|I've seen that movie.|I saw that movie.
grammar|Its a nice day.|It's a nice day.|It is a nice day.
grammar|Your welcome.|You're welcome.|You are welcome.
grammar|This is more better.|This is better.
upper|hello world|HELLO WORLD
upper|good morning|GOOD MORNING
upper|the quick fox|THE QUICK FOX
upper|meeting at noon|MEETING AT NOON
upper|my name is bob|MY NAME IS BOB
negative|I like coffee.|I do not like coffee.|I don't like coffee.
negative|She is at home.|She is not at home.|She isn't at home.
negative|They have a car.|They do not have a car.|They don't have a car.|They have no car.
negative|He can swim.|He cannot swim.|He can't swim.|He can not swim.
negative|We went to the beach.|We did not go to the beach.|We didn't go to the beach.
question|You are hungry.|Are you hungry
question|She can drive.|Can she drive
question|They live here.|Do they live here
question|He likes music.|Does he like music
question|We won the game.|Did we win the game
plural|The dog barks.|The dogs bark.
plural|The child is asleep.|The children are asleep.
plural|A bird sings.|Birds sing.|The birds sing.
passive|The dog bit the man.|The man was bitten by the dog.
passive|Anna wrote the letter.|The letter was written by Anna.
passive|The chef cooks the meal.|The meal is cooked by the chef.
passive|They built the house in 1990.|The house was built in 1990.|The house was built by them in 1990.|\
In 1990, the house was built.
contraction|I am not going to the party.|I'm not going to the party.
contraction|They will not come.|They won't come.
contraction|You are right.|You're right.
"""
_PHRASES = """
Spanish|hello|hola
French|thank you|merci
Spanish|thank you|gracias
German|thank you|danke
Spanish|good morning|buenos días
French|goodbye|au revoir
German|good morning|guten Morgen
Italian|hello|ciao|salve|buongiorno
Italian|thank you|grazie
Spanish|yes|sí
French|I love you|je t'aime
Spanish|good night|buenas noches
German|goodbye|auf Wiedersehen|tschüss
Japanese|thank you|arigato|arigatou|arigatō|ありがとう
Spanish|please|por favor
French|please|s'il vous plaît|s'il te plaît
German|please|bitte
Portuguese|thank you|obrigado|obrigada
Spanish|I love you|te amo|te quiero
French|good night|bonne nuit
Italian|good morning|buongiorno|buon giorno
German|I love you|ich liebe dich
Spanish|friend|amigo|amiga
French|cat|chat|chatte
Spanish|house|casa
Italian|goodbye|arrivederci|ciao|addio
Japanese|hello|konnichiwa|こんにちは
Spanish|How are you?|cómo estás|cómo está|qué tal
French|How are you?|comment allez-vous|comment vas-tu|comment ça va|ça va
German|How are you?|wie geht es dir|wie geht es Ihnen|wie geht's
German|good night|gute Nacht
Spanish|Where is the bathroom?|dónde está el baño
French|the red car|la voiture rouge
Spanish|the white dog|el perro blanco
German|the big house|das große Haus
Spanish|I am hungry|tengo hambre
French|I am hungry|j'ai faim
German|I am hungry|ich habe Hunger|ich bin hungrig
Italian|I am hungry|ho fame
French|My name is Anna.|je m'appelle Anna|mon nom est Anna
Spanish|My name is Anna.|me llamo Anna|mi nombre es Anna
German|My name is Anna.|ich heiße Anna|mein Name ist Anna
Spanish|See you tomorrow|hasta mañana|nos vemos mañana|te veo mañana
French|See you tomorrow|à demain
German|See you tomorrow|bis morgen
Spanish|I don't understand|no entiendo|no comprendo
French|I don't understand|je ne comprends pas
German|I don't understand|ich verstehe nicht|ich verstehe es nicht|ich verstehe das nicht
Italian|I don't understand|non capisco|non comprendo
French|What time is it?|quelle heure est-il
Spanish|What time is it?|qué hora es
German|What time is it?|wie spät ist es|wie viel Uhr ist es
French|The book is on the table.|le livre est sur la table
Spanish|The book is on the table.|el libro está sobre la mesa|el libro está en la mesa|el libro está encima de la mesa
German|The book is on the table.|das Buch liegt auf dem Tisch|das Buch ist auf dem Tisch
English|la maison bleue|the blue house|blue house
English|ich bin müde|I am tired|I'm tired
English|el gato negro|the black cat|black cat
English|guten Abend|good evening
English|j'ai deux frères|I have two brothers|I've got two brothers
English|¿Cuántos años tienes?|How old are you
English|wo ist der Bahnhof|where is the train station|where is the railway station|where is the station|\
where's the train station
English|il fait froid|it is cold|it's cold
"""
_SAYINGS = """
this is a test
hello
hello world
hi
OK
good morning
yes
test
ping
I am ready
banana
goodbye
thank you very much
the sky is blue
one two three
all systems are working
roses are red
nice to meet you
I like trains
time flies
better late than never
the cat sat on the mat
an apple a day keeps the doctor away
practice makes perfect
to be or not to be
the early bird catches the worm
knowledge is power
all that glitters is not gold
she sells sea shells
the quick brown fox jumps over the lazy dog
"""


def _read(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row.split("|")) for row in text.strip().splitlines())


CHANGES = _read(_CHANGES)
"""(what to do, a sentence, what it becomes, …)."""
ASKED_PHRASES = _read(_PHRASES)
"""(the language, a phrase, its translations …)."""
SAYINGS = tuple(_SAYINGS.strip().splitlines())
