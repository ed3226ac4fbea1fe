"""Yes-or-no questions, easy ones first: "question|yes or no"."""

_ROWS = """
Is the sky blue?|yes
Is fire cold?|no
Can birds fly?|yes
is ice hot|no
Do cats have tails?|yes
Is a dog an animal?|yes
Is Paris in France?|yes
is berlin in spain|no
Do fish live in water?|yes
Is the moon made of cheese?|no
Is 10 bigger than 5?|yes
is 3 greater than 8|no
Is Monday a day of the week?|yes
Is a banana a vegetable?|no
Do plants need sunlight?|yes
Is the sun a star?|yes
Is the earth flat?|no
Is London the capital of England?|yes
Is a whale a fish?|no
Is a tomato a fruit?|yes
Is a spider an insect?|no
Is Pluto a planet?|no
Is Python a programming language?|yes
is html a programming language|no
Is 17 a prime number?|yes
Is 21 a prime number?|no
Is 2 a prime number?|yes
is 51 a prime number|no
Is 100 an even number?|yes
Is 37 an odd number?|yes
Is zero a natural number smaller than one?|yes
Is Sydney the capital of Australia?|no
Is Toronto the capital of Canada?|no
Is Canberra the capital of Australia?|yes
Is Africa a country?|no
Is Brazil in Africa?|no
is greenland part of denmark|yes
Is Turkey in the European Union?|no
Is a penguin a bird?|yes
Can penguins fly?|no
Can ostriches fly?|no
Are bats birds?|no
Are dolphins mammals?|yes
is a mushroom a plant|no
Is a peanut a nut?|no
Is oxygen a metal?|no
Is mercury a metal?|yes
Is light faster than sound?|yes
is the sun bigger than the earth|yes
Is the moon bigger than the earth?|no
Does the sun go around the earth?|no
Do humans have more than one heart?|no
Do snakes have legs?|no
Do spiders have six legs?|no
does sound travel in a vacuum|no
Was Einstein a physicist?|yes
Was Napoleon French emperor?|yes
Was George Washington the first US president?|yes
Is the Great Wall of China visible from the moon?|no
Is Esperanto a constructed language?|yes
is 0.5 the same as one half|yes
Is 1 a prime number?|no
Is the square root of 2 rational?|no
Is every square a rectangle?|yes
Is every rectangle a square?|no
"""

ASKED_YES_NO = tuple(tuple(row.split("|")) for row in _ROWS.strip().splitlines())
