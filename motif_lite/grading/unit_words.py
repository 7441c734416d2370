"""Words behind a number: units, and words that change its value. Tables for `units`."""

UNITS = """
m meter meters metre metres|g gram grams gramme grammes gm gms 克|s second seconds sec secs 秒
L l liter liters litre litres|h hour hours hr hrs 小时|min minute minutes mins 分钟|d day days 天|week weeks wk wks
month months mo mos|year years yr yrs 年|t ton tons tonne tonnes|in inch inches|ft foot feet|yd yard yards yds
mi mile miles|oz ounce ounces|lb lbs pound pounds|gal gallon gallons|pt pint pints|qt quart quarts|cup cups
tbsp tablespoon tablespoons|tsp teaspoon teaspoons|acre acres|ha hectare hectares|N newton newtons|J joule joules
W watt watts|V volt volts|Hz hertz|Pa pascal pascals|mol mole moles|cal calorie calories|kcal kilocalorie kilocalories
bit bits|B byte bytes|rad radian radians|degree degrees deg 度|degree-C celsius|degree-F fahrenheit|kelvin kelvins
knot knots|rpm|dB decibel decibels|cc|km kilometer kilometers kilometre kilometres kms 千米 公里
cm centimeter centimeters centimetre centimetres cms 厘米|mm millimeter millimeters millimetre millimetres 毫米
dm decimeter decimeters decimetre decimetres 分米|nm nanometers
kg kilogram kilograms kilogramme kilogrammes kgs kilo kilos 千克 公斤|mg milligram milligrams|μg microgram micrograms
mL ml milliliter milliliters millilitre millilitres|cL cl centiliter centiliters|dL dl deciliter deciliters
kL kl kiloliters|ms millisecond milliseconds|ns nanosecond nanoseconds|μs microsecond microseconds
kW kilowatt kilowatts|MW megawatt megawatts|kWh|kJ kilojoule kilojoules|MJ megajoule megajoules
kN kilonewton kilonewtons|kV kilovolt kilovolts|kHz kilohertz|MHz megahertz|GHz gigahertz|kPa kilopascal kilopascals
kB KB kilobyte kilobytes|MB megabyte megabytes|GB gigabyte gigabytes|dollar dollars usd buck bucks $ 美元
cent cents ¢ penny pennies|euro euros eur € 欧元|gbp £ 英镑|yen jpy 日元 円|yuan rmb cny ¥ 元 块 人民币
rupee rupees inr rs ₹|cad|aud|peso pesos|franc francs chf|won krw ₩|ruble rubles ₽|shekel shekels ₪|unit units
item items 个|people person persons 人|children child kid kids|men man|women woman|teeth tooth|mice mouse|geese goose
fish|sheep|deer|dice die|oxen ox|cattle|vertices vertex|m 米|year 岁|apple|egg|book|ticket|coin|student|marble|page
game|box|bag|card|ball|car|house|tree|flower|dog|cat|cow|horse|chicken|pencil|pen|toy|bottle|slice|piece|cookie|orange
banana|candy|cake|pie|seat|team|class|room|row|table|chair|shirt|shoe|hat|trip|step|lap|stamp|sticker|photo|song|movie
word|letter|number|integer|solution|digit|edge|face|side|triangle|square|cube|term|point|permutation|combination
arrangement|outcome|value|factor|divisor|subset|function|line|circle|vote|goal|meal|train|bus|boat
"""
"""Groups of spellings between bars or line ends; the first of a group names the unit."""

COMPOUND_UNITS = {"mph": "mi/h", "kph": "km/h", "kmph": "km/h", "kmh": "km/h", "mps": "m/s", "mpg": "mi/gal"}

BARE_LETTERS = frozenset("mghsL")
"""Units of one letter that may stand in the type of variables, where a space sets them off: ``6 m``."""

TEXT_LETTERS = frozenset("mghsLldtNJWV")
"""Units of one letter that may stand in upright type."""

CHANGES_VALUE = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion
quadrillion lakh crore dozen score gross myriad pair couple half halves third quarter fourth fifth double triple twice
thrice quadruple squared cubed factorial reciprocal negative opposite inverse minus plus times over divided multiplied
mod modulo choose power powers point root roots sqrt log ln sin cos tan exp squareroot zeros tens ones not no non
never none nor neither false wrong incorrect untrue invalid isn't is are was were be been being has have had does do
did if unless else otherwise except but or and than maybe perhaps possibly probably either versus vs less fewer
greater under below above about roughly approximately nearly almost least most at to from up down off out its this
these those yes misses fails lies guesses his hers ours yours theirs us thus always sometimes as so pi e i infinity
undefined nan null unknown k bn mn mil x y z n a b c nope doubtful unsure wrongs
"""
"""Number words, operators, negations and words of doubt: behind a number none of them is a unit."""

NO_FRACTIONS = """
month math tooth youth cloth moth bath path depth length width birth booth myth city county party property penalty
quantity identity beauty safety facility pastry bounty
"""
"""Nouns that look like fractions (``fifths``) or number words (``fifty``)."""

TAILS = """
old long tall high wide deep thick away ago each total left remaining altogether apart together more later earlier
daily weekly monthly yearly annually overall
"""
"""May follow a unit."""

ALONE = "total altogether each left remaining overall"
"""May stand for a unit."""
