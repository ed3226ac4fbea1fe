"""Words and terms to explain, easy ones first: "word|what its explanation may say|…".

Of a term (`TERMS`) an explanation has to name something of each group; a group's words are the beginnings of words.
"""

_WORDS = """
big|large|great|huge|size
happy|joy|pleased|pleasure|content|glad|cheerful|good
fast|quick|speed|rapid
sad|unhappy|sorrow|unhappiness|down
begin|start|commence
tiny|small|little|minute
angry|mad|anger|upset|furious|rage|annoyed|displeasure
enormous|large|huge|big|massive|immense
rapid|fast|quick|speed
ancient|old|long ago|past
difficult|hard|challenging|not easy|effort
silent|quiet|no sound|without sound|noise|not speaking|still
brave|courage|fear|bold
damp|wet|moist
error|mistake|wrong
purchase|buy|acquire|payment|money
reply|answer|respond|response
assist|help|support|aid
vacant|empty|unoccupied|not occupied|available
rare|uncommon|unusual|not common|seldom|not often|infrequent
generous|giving|give|kind|share|sharing
famous|well-known|well known|known|renowned|recognized
fragile|easily broken|delicate|break|breakable|damaged
genuine|real|authentic|true|sincere
humid|moisture|moist|damp|water vapor|wet
reluctant|unwilling|hesitant|hesitation|hesitate|unwillingness|not willing
abundant|plenty|plentiful|large quantity|a lot|large amount|more than enough|large quantities|many
obsolete|out of date|outdated|no longer|old
benevolent|kind|good|charitable|generous|well-meaning|kindness
concise|brief|short|few words|to the point
hostile|unfriendly|aggressive|enemy|opposed|opposition|antagonistic
inevitable|unavoidable|certain|cannot be avoided|can't be avoided|bound to happen|cannot be prevented|sure to
diligent|hard-working|hardworking|careful|effort|industrious|persistent|persistence
candid|honest|frank|open|straightforward|truthful|sincere
frugal|thrifty|economical|saving|sparing|money|waste|resources
meticulous|careful|detail|details|precise|thorough
ambiguous|unclear|more than one|multiple|vague|several|uncertain
nostalgia|past|longing
ephemeral|short time|short-lived|brief|temporary|fleeting|transient|short period|short
gregarious|sociable|social|company|outgoing
lucid|clear|understandable|easily understood
mundane|ordinary|everyday|dull|boring|routine|common|commonplace
ubiquitous|everywhere|widespread|common|omnipresent
pragmatic|practical|realistic|practicality
resilient|recover|bounce back|withstand|adapt
altruistic|selfless|unselfish|others
cacophony|harsh|noise|discordant|sounds|dissonant
ostentatious|showy|show|pretentious|display|flashy|impress
taciturn|quiet|reserved|few words|silent|speaks little|little
loquacious|talkative|talk|talks|talking|chatty|speak
"""
_TERMS = """
a bicycle|two wheel,two-wheel,wheel|pedal,ride,riding,vehicle,transport
a dictionary|book,reference,collection,list|word,meaning,definition
a calendar|day,date,month,week|year,time,system,chart,month
rain|water,drop,precipitation|cloud,sky,fall,atmosphere
a volcano|mountain,opening,earth,vent,crust|lava,magma,erupt
a desert|dry,arid,rain,precipitation,water|land,region,area,place
an island|land|water,sea,ocean
a thermometer|measur|temperature,heat
an umbrella|rain,sun|protect,shield,cover,keep
a hospital|sick,patient,medical,ill|care,treat
a passport|travel,identity,citizen|document,issued,official
photosynthesis|plant|light,sun|energy,food,glucose,sugar,oxygen,carbon
gravity|force|attract,pull,mass
evaporation|liquid,water|gas,vapor,vapour
a mammal|animal,vertebrate|milk,hair,fur,warm
a noun|word|person,place,thing,name
a verb|word|action,state,occurrence
an adjective|word|describ,modif|noun,pronoun
a triangle|three|side,angle,polygon
a prime number|number|divis,factor,divid|1,one,itself
democracy|people,citizen|government,power,vote,elect,rule
a vaccine|immun,protect,prevent|disease,infection,virus,illness,pathogen
an eclipse|moon,sun,celestial|block,shadow,pass,between,obscur
an earthquake|shak,tremor,movement,vibrat,release|earth,ground,plate,crust
inflation|price|rise,increase,rising,general,rate
a metaphor|figure,compar,literary|compar,literal,another,like
a synonym|word|same,similar
an atom|small,basic,unit,building|matter,element,nucle
a molecule|atom|bond,group,together,two,combin
an algorithm|step,set,instruct,procedure,process,rule|problem,task,solv,comput
a database|data,information|collection,organi,stor
machine learning|data|learn,algorithm,comput,model,artificial
a compiler|code,program,source|translat,convert,machine,executable
recursion|function,process,problem,itself|itself,call,smaller
a search engine|search,find|web,internet,information
an operating system|software,program|hardware,computer,manage
osmosis|water,solvent,molecul,fluid|membrane,concentration
mitosis|cell|divi|two,identical,daughter,nucle
entropy|disorder,random,energy,uncertain|system,measure,thermodynamic,information
an enzyme|protein,biological,molecule|catal,reaction,speed
a black hole|gravit|light,escape
plate tectonics|plate|earth,crust,lithosphere,continent
supply and demand|price|market,goods,product,quantity,seller,consumer
opportunity cost|alternative,forgone,next,foregone,give,lost|choice,option,choos,decision,benefit
the greenhouse effect|heat,warm,temperature|atmosphere,gas
natural selection|trait,adapt,organism,species,character|surviv,reproduc,environment
symbiosis|organism,species|relationship,interact,together,benefit
relativity|einstein|space,time,gravity,motion,speed
the Pythagorean theorem|right|triangle|square,hypotenuse,a^2,a²
cryptocurrency|digital,virtual|currency,money,blockchain,crypto
"""

ASKED_WORDS = tuple(tuple(row.split("|")) for row in _WORDS.strip().splitlines())
TERMS = tuple(
    (term, [group.split(",") for group in groups])
    for term, *groups in (row.split("|") for row in _TERMS.strip().splitlines())
)
