"""Countries: (level, English, capital, continent, German dative, German capital, Spanish, Spanish capital).

Level 1 is what everybody knows; 5 is a quiz night. Alternatives are separated by "|". Rows without German and
Spanish are asked in English only. "von" and "de" go before the German and Spanish names.
"""

from typing import NamedTuple


class Country(NamedTuple):
    """One row of the table below."""

    level: int
    name: str
    capital: str
    continent: str
    name_de: str = ""
    capital_de: str = ""
    name_es: str = ""
    capital_es: str = ""


_ROWS = """
1;France;Paris;Europe;Frankreich;Paris;Francia;París
1;Germany;Berlin;Europe;Deutschland;Berlin;Alemania;Berlín
1;Italy;Rome;Europe;Italien;Rom;Italia;Roma
1;Spain;Madrid;Europe;Spanien;Madrid;España;Madrid
1;England;London;Europe;England;London;Inglaterra;Londres
1;Japan;Tokyo;Asia;Japan;Tokio|Tokyo;Japón;Tokio
1;China;Beijing;Asia;China;Peking|Beijing;China;Pekín|Beijing
1;Russia;Moscow;Europe|Asia;Russland;Moskau;Rusia;Moscú
1;Greece;Athens;Europe;Griechenland;Athen;Grecia;Atenas
1;Egypt;Cairo;Africa;Ägypten;Kairo;Egipto;El Cairo|Cairo
1;Ireland;Dublin;Europe;Irland;Dublin;Irlanda;Dublín
1;Portugal;Lisbon;Europe;Portugal;Lissabon;Portugal;Lisboa
1;Austria;Vienna;Europe;Österreich;Wien;Austria;Viena
1;Cuba;Havana;North America;Kuba;Havanna;Cuba;La Habana|Habana
1;Sweden;Stockholm;Europe;Schweden;Stockholm;Suecia;Estocolmo
1;Norway;Oslo;Europe;Norwegen;Oslo;Noruega;Oslo
1;Denmark;Copenhagen;Europe;Dänemark;Kopenhagen;Dinamarca;Copenhague
1;Poland;Warsaw;Europe;Polen;Warschau;Polonia;Varsovia
2;Finland;Helsinki;Europe;Finnland;Helsinki;Finlandia;Helsinki
2;Hungary;Budapest;Europe;Ungarn;Budapest;Hungría;Budapest
2;Belgium;Brussels;Europe;Belgien;Brüssel;Bélgica;Bruselas
2;Canada;Ottawa;North America;Kanada;Ottawa;Canadá;Ottawa
2;Argentina;Buenos Aires;South America;Argentinien;Buenos Aires;Argentina;Buenos Aires
2;Mexico;Mexico City;North America;Mexiko;Mexiko-Stadt|Mexiko Stadt;México;Ciudad de México
2;Peru;Lima;South America;Peru;Lima;Perú;Lima
2;Chile;Santiago;South America;Chile;Santiago;Chile;Santiago
2;Thailand;Bangkok;Asia;Thailand;Bangkok;Tailandia;Bangkok
2;South Korea;Seoul;Asia;Südkorea;Seoul;Corea del Sur;Seúl
2;Iraq;Baghdad;Asia;dem Irak;Bagdad;Irak;Bagdad
2;Iran;Tehran|Teheran;Asia;dem Iran;Teheran;Irán;Teherán
2;Kenya;Nairobi;Africa;Kenia;Nairobi;Kenia;Nairobi
2;Colombia;Bogotá;South America;Kolumbien;Bogotá;Colombia;Bogotá
2;the Czech Republic;Prague;Europe;Tschechien;Prag;la República Checa;Praga
2;Romania;Bucharest;Europe;Rumänien;Bukarest;Rumanía;Bucarest
2;Ukraine;Kyiv|Kiev;Europe;der Ukraine;Kiew|Kyjiw|Kyiv;Ucrania;Kiev|Kyiv
2;Switzerland;Bern|Berne;Europe;der Schweiz;Bern;Suiza;Berna
2;Australia;Canberra;Australia|Oceania;Australien;Canberra;Australia;Canberra
2;India;New Delhi|Delhi;Asia;Indien;Neu-Delhi|Neu Delhi|Delhi|New Delhi;la India;Nueva Delhi|Delhi
2;the Netherlands;Amsterdam;Europe;den Niederlanden;Amsterdam;los Países Bajos;Ámsterdam
3;Turkey;Ankara;Asia|Europe;der Türkei;Ankara;Turquía;Ankara
3;Brazil;Brasília|Brasilia;South America;Brasilien;Brasília|Brasilia;Brasil;Brasilia
3;Vietnam;Hanoi|Ha Noi;Asia;Vietnam;Hanoi;Vietnam;Hanói
3;Iceland;Reykjavik;Europe;Island;Reykjavík;Islandia;Reikiavik|Reykjavik
3;Bulgaria;Sofia;Europe;Bulgarien;Sofia;Bulgaria;Sofía
3;Croatia;Zagreb;Europe;Kroatien;Zagreb;Croacia;Zagreb
3;Serbia;Belgrade;Europe;Serbien;Belgrad;Serbia;Belgrado
3;New Zealand;Wellington;Oceania|Australia;Neuseeland;Wellington;Nueva Zelanda;Wellington
3;Indonesia;Jakarta;Asia;Indonesien;Jakarta;Indonesia;Yakarta|Jakarta
3;the Philippines;Manila;Asia;den Philippinen;Manila;Filipinas;Manila
3;Malaysia;Kuala Lumpur;Asia;Malaysia;Kuala Lumpur;Malasia;Kuala Lumpur
3;Pakistan;Islamabad;Asia;Pakistan;Islamabad;Pakistán;Islamabad
3;Morocco;Rabat;Africa;Marokko;Rabat;Marruecos;Rabat
3;Ethiopia;Addis Ababa;Africa;Äthiopien;Addis Abeba;Etiopía;Adís Abeba|Addis Abeba
3;Saudi Arabia;Riyadh;Asia;Saudi-Arabien;Riad;Arabia Saudita|Arabia Saudí;Riad
3;Venezuela;Caracas;South America;Venezuela;Caracas;Venezuela;Caracas
3;Uruguay;Montevideo;South America;Uruguay;Montevideo;Uruguay;Montevideo
3;Ecuador;Quito;South America;Ecuador;Quito;Ecuador;Quito
3;Slovakia;Bratislava;Europe;der Slowakei;Bratislava;Eslovaquia;Bratislava
3;Estonia;Tallinn;Europe;Estland;Tallinn;Estonia;Tallin|Tallinn
3;Latvia;Riga;Europe;Lettland;Riga;Letonia;Riga
3;Lithuania;Vilnius;Europe;Litauen;Vilnius;Lituania;Vilna|Vilnius
3;Lebanon;Beirut;Asia;dem Libanon;Beirut;Líbano;Beirut
3;Syria;Damascus;Asia;Syrien;Damaskus;Siria;Damasco
3;Afghanistan;Kabul;Asia;Afghanistan;Kabul;Afganistán;Kabul
3;Nepal;Kathmandu;Asia;Nepal;Kathmandu;Nepal;Katmandú
4;Slovenia;Ljubljana;Europe;Slowenien;Ljubljana;Eslovenia;Liubliana|Ljubljana
4;Nigeria;Abuja;Africa;Nigeria;Abuja;Nigeria;Abuya|Abuja
4;Algeria;Algiers;Africa;Algerien;Algier;Argelia;Argel
4;Tunisia;Tunis;Africa;Tunesien;Tunis;Túnez;Túnez
4;Libya;Tripoli;Africa;Libyen;Tripolis;Libia;Trípoli
4;Ghana;Accra;Africa;Ghana;Accra;Ghana;Acra|Accra
4;Senegal;Dakar;Africa;dem Senegal;Dakar;Senegal;Dakar
4;Bangladesh;Dhaka|Dacca;Asia;Bangladesch;Dhaka;Bangladés;Daca|Dhaka
4;Mongolia;Ulaanbaatar|Ulan Bator;Asia;der Mongolei;Ulaanbaatar|Ulan Bator|Ulan-Bator;Mongolia;Ulán Bator|Ulaanbaatar
4;Jamaica;Kingston;North America;Jamaika;Kingston;Jamaica;Kingston
4;Costa Rica;San José|San Jose;North America
4;Panama;Panama City;North America
4;Jordan;Amman;Asia;Jordanien;Amman;Jordania;Amán
4;Georgia (the country);Tbilisi;Asia|Europe
4;Armenia;Yerevan;Asia|Europe
4;Azerbaijan;Baku;Asia|Europe
4;Albania;Tirana;Europe;Albanien;Tirana;Albania;Tirana
4;Bosnia and Herzegovina;Sarajevo;Europe
4;Cyprus;Nicosia;Asia|Europe
4;Malta;Valletta;Europe;Malta;Valletta;Malta;La Valeta|Valletta
4;Luxembourg;Luxembourg;Europe
4;Zimbabwe;Harare;Africa;Simbabwe;Harare;Zimbabue;Harare
4;Uganda;Kampala;Africa;Uganda;Kampala;Uganda;Kampala
4;Angola;Luanda;Africa;Angola;Luanda;Angola;Luanda
4;Sudan;Khartoum;Africa
4;Somalia;Mogadishu;Africa
4;Paraguay;Asunción;South America
4;Cambodia;Phnom Penh;Asia
4;Belarus;Minsk;Europe
5;Moldova;Chișinău|Chisinau|Kishinev;Europe
5;Montenegro;Podgorica;Europe
5;North Macedonia;Skopje;Europe
5;Liechtenstein;Vaduz;Europe
5;Uzbekistan;Tashkent;Asia
5;Turkmenistan;Ashgabat;Asia
5;Tajikistan;Dushanbe;Asia
5;Kyrgyzstan;Bishkek;Asia
5;Laos;Vientiane;Asia
5;Myanmar;Naypyidaw|Nay Pyi Taw;Asia
5;Bhutan;Thimphu;Asia
5;Brunei;Bandar Seri Begawan;Asia
5;Oman;Muscat;Asia
5;Yemen;Sanaa|Sana'a;Asia
5;Madagascar;Antananarivo;Africa
5;Mozambique;Maputo;Africa
5;Namibia;Windhoek;Africa
5;Botswana;Gaborone;Africa
5;Zambia;Lusaka;Africa
5;Malawi;Lilongwe;Africa
5;Rwanda;Kigali;Africa
5;Mali;Bamako;Africa
5;Niger;Niamey;Africa
5;Chad;N'Djamena|NDjamena;Africa
5;Burkina Faso;Ouagadougou;Africa
5;Eritrea;Asmara;Africa
5;Liberia;Monrovia;Africa
5;Honduras;Tegucigalpa;North America
5;Nicaragua;Managua;North America
5;El Salvador;San Salvador;North America
5;Haiti;Port-au-Prince|Port au Prince;North America
5;the Bahamas;Nassau;North America
5;Barbados;Bridgetown;North America
5;Suriname;Paramaribo;South America
5;Guyana;Georgetown;South America
5;Papua New Guinea;Port Moresby;Oceania
5;Fiji;Suva;Oceania
"""

COUNTRIES = tuple(
    Country(int(level), *fields) for level, *fields in (row.split(";") for row in _ROWS.strip().splitlines())
)
