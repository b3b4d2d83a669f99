"""What is not English is found, and English texts with names, numbers, emoji and slang are not taken for another language."""

import pytest

from training.models.emotion import encoder as minilm
from training.models.emotion import language

OTHERS = {
    "German": ["Wo ist meine Bestellung? Ich warte seit drei Wochen.", "Das Paket ist kaputt angekommen", "WANN KOMMT MEIN PAKET?"],
    "French": ["Où est ma commande ? J'attends depuis trois semaines.", "Le colis est arrivé cassé"],
    "Spanish": ["¿Dónde está mi pedido? Llevo tres semanas esperando.", "Quiero que me devuelvan el dinero"],
    "Italian": ["Dov'è il mio ordine? Aspetto da tre settimane."],
    "Portuguese": ["Onde está meu pedido? Estou esperando há três semanas."],
    "Dutch": ["Waar is mijn bestelling? Ik wacht al drie weken."],
    "Polish": ["Gdzie jest moje zamówienie? Czekam już trzy tygodnie."],
    "Czech": ["Kde je moje objednávka? Čekám už tři týdny."],
    "Swedish": ["Var är min beställning? Jag har väntat i tre veckor."],
    "Danish": ["Hvor er min ordre? Jeg har ventet i tre uger."],
    "Finnish": ["Missä tilaukseni on? Olen odottanut kolme viikkoa."],
    "Hungarian": ["Hol van a rendelésem? Három hete várok."],
    "Turkish": ["Siparişim nerede? Üç haftadır bekliyorum."],
    "Indonesian": ["Di mana pesanan saya? Saya sudah menunggu tiga minggu."],
    "Russian": ["Где мой заказ? Жду уже три недели.", "Спасибо"],
    "Greek": ["Πού είναι η παραγγελία μου;"],
    "Arabic": ["أين طلبي؟ أنتظر منذ ثلاثة أسابيع"],
    "Hindi": ["मेरा ऑर्डर कहाँ है?"],
    "Japanese": ["注文はどこですか？三週間待っています。"],
    "Chinese": ["我要退款"],
    "Korean": ["환불해 주세요"],
}
ENGLISH = [
    *("ok", "thanks!", "hi", "wtf", "lol", "asap!!", "no", "meh", "gr8", "ty", "k thx bye", "omg so gd", "Refund pls", "yall scammers"),
    *("Order #4471-A99 still missing", "tracking 1Z999AA10123456784", "Hi, this is Jürgen Müller, order 88213", "Jose Garcia, Madrid"),
    *("Hello Maria Fernandez", "iPhone 15 Pro Max 256GB", "Café au lait mug arrived broken", "😡😡😡", "🔥 gimme my money 🔥", "DHL", ""),
    *("u guys r da best", "pls halp", "it don't work", "https://example.com/a/b?c=d", "me@example.com", "12345", "[NAME] hi", "!!!"),
    *(
        "My Kallax from Ikea is wobbly",
        "Schadenfreude is all I have left",
        "déjà vu",
        "Zara dress size",
        "Friedrichstraße 43, 10117 Berlin",
    ),
]


def foreign(text):
    return bool(language.foreign([text], minilm.pieces([text]))[0])


@pytest.mark.parametrize("text", [text for texts in OTHERS.values() for text in texts])
def test_a_text_in_another_language_is_found(text):
    assert foreign(text)


@pytest.mark.parametrize("text", ENGLISH)
def test_a_short_english_text_is_not_taken_for_another_language(text):
    assert not foreign(text)


def test_hardly_any_comment_of_an_english_forum_is_taken_for_another_language(data_dir):
    texts = [line.split("\t")[0] for line in (data_dir / "goemotions" / "dev.tsv").read_text().splitlines()]
    assert language.foreign(texts, minilm.pieces(texts)).mean() < 0.002


def test_a_text_is_read_the_same_alone_and_among_others():
    texts = [*ENGLISH, *(text for group in OTHERS.values() for text in group)]
    assert language.foreign(texts, minilm.pieces(texts)).tolist() == [foreign(text) for text in texts]
