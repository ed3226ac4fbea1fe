"""Short questions of fact, roughly from what every child knows to a quiz night: "question?|answer|other answers".

None of them is asked by another family, so that no fact is asked of a router that learned it in other words.
"""

_ROWS = """
Who wrote Macbeth?|Shakespeare
What color is the sun?|yellow|white
How many legs does a cat have?|four|4
How many hours are in a day?|24|twenty-four|twenty four
What color are strawberries?|red
How many eyes do people have?|two|2
What do cows drink?|water
What is the opposite of up?|down
what is the capital of texas|Austin
what language do they speak in france|French
How many days are there in a year?|365|366
what animal says moo|cow|cows|cattle
What is the color of an emerald?|green
Which day comes after Monday?|Tuesday
who was the first man in space|Gagarin
What color is a lemon?|yellow
how many letters are in the english alphabet|26|twenty-six|twenty six
What is the largest country in the world?|Russia
Who wrote the Odyssey?|Homer
What language is spoken in Italy?|Italian
How many seconds are in a minute?|60|sixty
where is the statue of liberty|New York
What is H2O?|water
What's the capital of California?|Sacramento
How many wheels does a car have?|four|4
Who is Mickey Mouse's girlfriend?|Minnie
what do pandas eat|bamboo
Who discovered America in 1492?|Columbus
What planet is closest to Earth's size?|Venus
Which month comes after June?|July
how many months have 31 days|seven|7
What color is chocolate?|brown
Where do penguins live?|Antarctica|Southern Hemisphere|Antarctic
what does the heart do|pump|pumps|pumping|circulates
Who invented the light bulb?|Edison|Swan
Which continent is Egypt in?|Africa
Who wrote A Christmas Carol?|Dickens
how many weeks are in a year|52|fifty-two|fifty two
What is the boiling point of water in Celsius?|100
At what temperature does water freeze in Celsius?|0|zero
What is the capital of Florida?|Tallahassee
who painted the sunflowers|van Gogh
what does CPU stand for|central processing unit
What does USA stand for?|United States of America
when did world war 1 end|1918
When was the Declaration of Independence signed?|1776
who founded microsoft|Gates|Allen
Who founded Apple?|Jobs|Wozniak
What does NASA stand for?|National Aeronautics and Space Administration
what does www stand for|World Wide Web
What does HTML stand for?|Hypertext Markup Language|Hyper Text Markup Language
What does PDF stand for?|Portable Document Format
What does AI stand for?|artificial intelligence
what does dna stand for|deoxyribonucleic acid
What does UFO stand for?|unidentified flying object
What does GPS stand for?|Global Positioning System
what does atm stand for|automated teller machine|automatic teller machine
Who was Romeo's lover?|Juliet
What is the longest river in Africa?|Nile
Where is the Great Wall?|China
What is the main language of Australia?|English
Which gas do we breathe out?|carbon dioxide|CO2
What is the chemical symbol for gold?|Au
what's the symbol for sodium|Na
What is the capital of New York State?|Albany
Which country has the most people?|India|China
Who sang Thriller?|Michael Jackson
which band wrote hey jude|Beatles
Who wrote Alice in Wonderland?|Carroll
Who is the author of The Hobbit?|Tolkien
who wrote The Lord of the Rings|Tolkien
How many planets are in the solar system?|eight|8
how many bones are in the human body|206
How many teeth does an adult have?|32|thirty-two|thirty two
What is the speed of light?|299,792|299792|300,000|300000|186,282|3 x 10
how far is the moon from the earth|384|238|239
What is the freezing point of water in Fahrenheit?|32
What year did World War II start?|1939
Who was president during the American Civil War?|Lincoln
who was the second president of the united states|Adams
Who was the 16th US president?|Lincoln
What's the capital of Hawaii?|Honolulu
What is the capital of Alaska?|Juneau
What is the capital of Georgia, USA?|Atlanta
what is the capital of Illinois?|Springfield
What is the capital of Ohio?|Columbus
What is the capital of Colorado?|Denver
What is the capital of Massachusetts?|Boston
What is the capital of Arizona?|Phoenix
what's the capital of washington state|Olympia
What is the capital of Pennsylvania?|Harrisburg
What is the capital of Tennessee?|Nashville
Where is Machu Picchu?|Peru
Where is the Taj Mahal located, which city?|Agra
In which country is Barcelona?|Spain
which country is Munich in|Germany
What country is Kyoto in?|Japan
What country is Toronto in?|Canada
Where is Big Ben?|London
where is the golden gate bridge|San Francisco
Where is Mount Rushmore?|South Dakota
In which city is the Brandenburg Gate?|Berlin
Where is the Kremlin?|Moscow
what's the largest lake in the world|Caspian|Superior
What is the smallest planet?|Mercury
what is the coldest continent|Antarctica
Which planet has the Great Red Spot?|Jupiter
What is the closest star to Earth?|Sun
Which metal does rust consist of?|iron
What gas do balloons float with?|helium
What is table salt made of?|sodium|NaCl
what is diamond made of|carbon
Who wrote The Great Gatsby?|Fitzgerald
Who wrote Little Women?|Alcott
Who wrote The Old Man and the Sea?|Hemingway
who wrote to kill a mockingbird|Lee
Who wrote Animal Farm?|Orwell
Who wrote Dracula?|Stoker
Who wrote Jane Eyre?|Brontë|Bronte
Who wrote Wuthering Heights?|Brontë|Bronte
Who wrote Brave New World?|Huxley
who wrote the raven|Poe
Who wrote The Adventures of Tom Sawyer?|Twain|Clemens
Who wrote Les Misérables?|Hugo
Who wrote The Catcher in the Rye?|Salinger
Who wrote Anna Karenina?|Tolstoy
Who wrote Faust?|Goethe
Who wrote The Metamorphosis?|Kafka
Who wrote the Iliad?|Homer
who wrote candide|Voltaire
Who wrote The Jungle Book?|Kipling
Who wrote Treasure Island?|Stevenson
Who wrote Robinson Crusoe?|Defoe
Who wrote Gulliver's Travels?|Swift
Who wrote The Picture of Dorian Gray?|Wilde
Who wrote The Little Prince?|Saint-Exupéry|Saint-Exupery|Exupery
Who wrote Fahrenheit 451?|Bradbury
Who wrote Dune?|Herbert
Who created Winnie-the-Pooh?|Milne
who directed jaws|Spielberg
Who directed Titanic?|Cameron
who directed pulp fiction|Tarantino
Who composed Für Elise?|Beethoven
Who composed Swan Lake?|Tchaikovsky
Who wrote the opera Aida?|Verdi
Who composed the Brandenburg Concertos?|Bach
Who composed the Messiah?|Handel
Who painted The Persistence of Memory?|Dalí|Dali
Who painted Water Lilies?|Monet
who painted the birth of venus|Botticelli
Who painted The Night Watch?|Rembrandt
Who painted The Kiss?|Klimt
Who sculpted The Thinker?|Rodin
Who discovered gravity?|Newton
Who discovered radium?|Curie
who invented the printing press|Gutenberg
Who invented the radio?|Marconi|Tesla
Who invented the airplane?|Wright
Who invented dynamite?|Nobel
Who invented the World Wide Web?|Berners-Lee
who created python|Rossum
Who created Linux?|Torvalds
Who founded Amazon?|Bezos
Who founded Facebook?|Zuckerberg
When did the Soviet Union collapse?|1991
When was the French Revolution?|1789
when did the american civil war end|1865
When did the Roman Empire in the west fall?|476
What year did the Wright brothers first fly?|1903
When was the first iPhone released?|2007
In what year was John F. Kennedy assassinated?|1963
When did Hawaii become a state?|1959
when was shakespeare born|1564
When did World War II end in Europe?|1945
What is the currency of the UK?|pound|pounds|sterling
what currency does china use|yuan|renminbi
What is the currency of Russia?|ruble|rubles|rouble|roubles
What is the currency of Brazil?|real|reais
what is the currency of Thailand?|baht
What is the currency of Turkey?|lira
what is the currency of south africa|rand
What is the official language of Egypt?|Arabic
What language do people speak in Austria?|German
What languages are official in Canada?|English and French|French and English
what language is spoken in iran|Persian|Farsi
What is the largest state in the USA?|Alaska
What is the smallest US state?|Rhode Island
What is the national animal of Australia?|kangaroo
What is the largest bird?|ostrich
What is the largest fish?|whale shark
what is the largest land animal|elephant
What is the fastest bird?|peregrine|falcon
What is a young horse called?|foal|colt|filly
What is a female deer called?|doe|hind
What is a male chicken called?|rooster|cock|cockerel
what do you call a group of fish|school|shoal
What is a group of geese called?|gaggle|flock
What is the human body's normal temperature in Celsius?|37|36.5|36.6|36.8
How many chambers does the human heart have?|four|4
How many chromosomes do humans have?|46|forty-six|23 pairs
Which organ cleans the blood?|kidney|kidneys|liver
What is the study of plants called?|botany
What is the study of stars called?|astronomy
what is the study of earthquakes called|seismology
What is the study of the mind called?|psychology
What is the fear of spiders called?|arachnophobia
What is the fear of heights called?|acrophobia
What is the fear of small spaces called?|claustrophobia
What is the SI unit of power?|watt|watts
What is the SI unit of energy?|joule|joules
What is the unit of electric current?|ampere|amperes|amp|amps
what is the unit of voltage|volt|volts
What is the pH of pure water?|7|seven
What is the atomic number of carbon?|6|six
What is the chemical symbol for silver?|Ag
What is the chemical symbol for iron?|Fe
what is the chemical symbol for potassium|K
What is the chemical formula of carbon dioxide?|CO2|CO₂
what is the chemical formula of glucose|C6H12O6|C₆H₁₂O₆
What does the Roman numeral X stand for?|10|ten
What is the Roman numeral for 50?|L
what is 100 in roman numerals|C
How many sides does an octagon have?|eight|8
how many sides does a pentagon have|five|5
How many degrees are in a circle?|360
How many degrees do the angles of a triangle add up to?|180
What is pi to two decimal places?|3.14
how many zeros are in a million|six|6
How many inches are in a foot?|12|twelve
How many feet are in a mile?|5,280|5280
How many grams are in a kilogram?|1,000|1000|thousand
How many bits are in a byte?|eight|8
how many players are on a basketball team|five|5
How many holes are there on a golf course?|18|eighteen
How many strings does a guitar have?|six|6
how many cards are in a deck|52|fifty-two|fifty two
How many states are in the USA?|50|fifty
How many rings are on the Olympic flag?|five|5
How many stripes are on the US flag?|13|thirteen
how many players are on a baseball team|nine|9
What sport is played at Wimbledon?|tennis
which country won the 2018 world cup|France
Which country invented pizza?|Italy
Where do sushi come from?|Japan
What is guacamole made from?|avocado|avocados
What is tofu made from?|soy|soya|soybean|soybeans
what is hummus made of|chickpea|chickpeas
Which nut is used in marzipan?|almond|almonds
What is the main ingredient of an omelette?|egg|eggs
What is whisky distilled from?|grain|barley|malt|mash
Who is the Greek god of love?|Eros|Aphrodite
Who is the Roman god of the sea?|Neptune
who was the greek goddess of wisdom|Athena
Who killed Goliath?|David
Who built the ark in the Bible?|Noah
Who killed Achilles?|Paris
Who was the first emperor of Rome?|Augustus|Octavian
who was the first woman to win a nobel prize|Curie
Who was the first female prime minister of the UK?|Thatcher
Who was the queen of Egypt with Mark Antony?|Cleopatra
who was the leader of nazi germany|Hitler
Who led India's nonviolent independence movement?|Gandhi
Who wrote I Have a Dream?|King
What is the capital of Catalonia?|Barcelona
what is the capital of scotland|Edinburgh
What is the capital of Bavaria?|Munich
What is the capital of Quebec?|Quebec
What is the capital of Tibet?|Lhasa
What is the capital of Sicily?|Palermo
What is the deepest ocean trench?|Mariana|Marianas
What is the longest wall in the world?|Great Wall
what is the tallest building in the world|Burj
What is the hottest planet in the solar system?|Venus
Which planet has the most moons?|Saturn
what is the largest desert in the world|Antarctica|Antarctic|Sahara
What is the largest gland in the human body?|liver
What vitamin do oranges have a lot of?|vitamin C|C
Which vitamin prevents scurvy?|vitamin C|C
What is the most common element in the universe?|hydrogen
What is the lightest element?|hydrogen
"""
"""Where an answer is one letter or a number, it counts as a word of its own."""

ASKED_FACTS = tuple(tuple(row.split("|")) for row in _ROWS.strip().splitlines())
