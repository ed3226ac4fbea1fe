"""Things to list: (what, all members that count, in any order); a member's other forms follow "/"."""

_ROWS = """
colors|red blue green yellow orange purple/violet black white brown pink gray/grey indigo turquoise cyan magenta gold \
silver beige maroon navy teal lavender
days of the week|Monday Tuesday Wednesday Thursday Friday Saturday Sunday
months|January February March April May June July August September October November December
seasons|spring summer autumn/fall winter
planets|Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune
continents|Africa Asia Europe North_America South_America Australia/Oceania Antarctica
oceans|Pacific Atlantic Indian Arctic Southern/Antarctic
fruits|apple/apples banana/bananas orange/oranges grape/grapes strawberry/strawberries mango/mangoes/mangos \
pineapple/pineapples pear/pears peach/peaches plum/plums cherry/cherries lemon/lemons lime/limes kiwi/kiwis \
watermelon/watermelons blueberry/blueberries raspberry/raspberries blackberry/blackberries papaya/papayas \
apricot/apricots fig/figs melon/melons coconut/coconuts grapefruit/grapefruits pomegranate/pomegranates guava/guavas \
avocado/avocados
vegetables|carrot/carrots potato/potatoes broccoli spinach tomato/tomatoes cucumber/cucumbers onion/onions lettuce \
cabbage/cabbages cauliflower kale pepper/peppers/bell_pepper/bell_peppers pea/peas bean/beans/green_beans \
zucchini/courgette eggplant/aubergine celery asparagus corn garlic beet/beets radish/radishes pumpkin/pumpkins \
leek/leeks sweet_potato/sweet_potatoes
animals|dog/dogs cat/cats lion/lions tiger/tigers elephant/elephants bear/bears horse/horses cow/cows pig/pigs \
sheep goat/goats monkey/monkeys giraffe/giraffes zebra/zebras rabbit/rabbits fox/foxes wolf/wolves deer mouse/mice \
kangaroo/kangaroos koala/koalas panda/pandas penguin/penguins dolphin/dolphins whale/whales shark/sharks \
eagle/eagles owl/owls bird/birds fish snake/snakes frog/frogs turtle/turtles leopard/leopards cheetah/cheetahs \
gorilla/gorillas hippopotamus/hippo rhino/rhinoceros crocodile/crocodiles chicken/chickens duck/ducks bee/bees
pets|dog/dogs cat/cats rabbit/rabbits hamster/hamsters fish/goldfish bird/birds parrot/parrots guinea_pig/guinea_pigs \
turtle/turtles snake/snakes lizard/lizards mouse/mice ferret/ferrets
farm animals|cow/cows/cattle pig/pigs sheep goat/goats horse/horses chicken/chickens/hen/hens duck/ducks \
turkey/turkeys donkey/donkeys goose/geese rabbit/rabbits
birds|eagle/eagles owl/owls sparrow/sparrows robin/robins parrot/parrots penguin/penguins crow/crows hawk/hawks \
pigeon/pigeons dove/doves duck/ducks swan/swans peacock/peacocks flamingo/flamingos ostrich/ostriches \
hummingbird/hummingbirds falcon/falcons cardinal/cardinals blue_jay/blue_jays finch/finches raven/ravens chicken
musical instruments|piano/pianos guitar/guitars violin/violins drum/drums flute/flutes trumpet/trumpets cello/cellos \
saxophone/saxophones clarinet/clarinets harp/harps trombone/trombones viola ukulele bass oboe tuba banjo accordion
sports|soccer football/american_football basketball tennis baseball golf hockey/ice_hockey/field_hockey swimming \
volleyball rugby cricket boxing running/track badminton table_tennis skiing cycling gymnastics wrestling
programming languages|Python Java JavaScript C++ C# C Ruby Go Rust Swift Kotlin PHP TypeScript R Scala Perl Haskell \
MATLAB SQL
European countries|France Germany Italy Spain Portugal Austria Switzerland Belgium Netherlands/the_Netherlands \
Poland Sweden Norway Denmark Finland Greece Ireland Hungary Romania Bulgaria Croatia Ukraine Russia \
United_Kingdom/UK/England Iceland Czech_Republic/Czechia Slovakia Slovenia Serbia Estonia Latvia Lithuania
countries in Asia|China Japan India South_Korea/Korea North_Korea Thailand Vietnam Indonesia Malaysia Singapore \
Philippines/the_Philippines Nepal Pakistan Bangladesh Sri_Lanka Mongolia Iran Iraq Saudi_Arabia Turkey Russia
countries in Africa|Egypt Nigeria Kenya South_Africa Morocco Algeria Ethiopia Ghana Tanzania Uganda Senegal Tunisia \
Libya Sudan Angola Mozambique Zimbabwe Zambia Madagascar Cameroon Rwanda Mali Niger Namibia Botswana
countries in South America|Brazil Argentina Chile Peru Colombia Venezuela Ecuador Bolivia Uruguay Paraguay Guyana \
Suriname
US states|California Texas Florida New_York Illinois Ohio Georgia Michigan Pennsylvania Arizona Washington Oregon \
Nevada Colorado Virginia Massachusetts Tennessee Indiana Missouri Maryland Wisconsin Minnesota Alabama Alaska Hawaii \
Utah Iowa Kansas Kentucky Louisiana Maine Montana Nebraska Oklahoma Vermont Wyoming Idaho Arkansas Connecticut
primary colors|red blue yellow green
prime numbers|2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71 73 79 83 89 97
even numbers|2 4 6 8 10 12 14 16 18 20 22 24 26 28 30 0
metals|iron gold silver copper aluminum/aluminium zinc lead tin nickel titanium platinum mercury steel tungsten \
chromium sodium
gases|oxygen nitrogen hydrogen helium carbon_dioxide neon argon methane chlorine ozone krypton xenon water_vapor
vowels|a e i o u
kinds of weather|rain/rainy snow/snowy sun/sunny wind/windy fog/foggy cloudy/clouds storm/stormy/thunderstorm hail \
cold hot/warm
parts of a plant|root/roots stem/stems leaf/leaves flower/flowers seed/seeds fruit/fruits
body parts|head arm/arms leg/legs hand/hands foot/feet eye/eyes ear/ears nose mouth heart brain neck knee/knees \
shoulder/shoulders finger/fingers stomach lungs liver chest back hair
rooms in a house|kitchen bedroom/bedrooms bathroom living_room dining_room garage attic basement office/study \
laundry_room hallway
drinks|water coffee tea milk juice/orange_juice soda/cola/coke beer wine lemonade
pieces of furniture|chair/chairs table/tables bed/beds sofa/couch desk/desks wardrobe bookshelf/bookcase dresser \
lamp cabinet stool bench/benches coffee_table dining_table armchair nightstand
"""


def _members(text: str) -> list[list[str]]:
    return [[form.replace("_", " ") for form in member.split("/")] for member in text.split()]


THINGS = tuple((what, _members(text)) for what, text in (row.split("|") for row in _ROWS.strip().splitlines()))
