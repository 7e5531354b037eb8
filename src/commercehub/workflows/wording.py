"""The words of what customers are sent, in English and Spanish: subject and text by kind and language."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a message is about."""

    ORDER_PLACED = "order_placed"
    PAYMENT_UNKNOWN = "payment_unknown"
    PAYMENT_RESOLVED = "payment_resolved"
    PAYMENT_FAILED = "payment_failed"
    READY = "ready"
    REMINDER = "reminder"
    SHIPPED = "shipped"
    HANDED_OVER = "handed_over"
    CANCELLED = "cancelled"
    PARTLY_CANCELLED = "partly_cancelled"
    NOT_COLLECTED = "not_collected"
    REFUNDED = "refunded"
    NEW_PASSWORD = "new_password"  # noqa: S105 - the kind of a message


LANGUAGE_DEFAULT: Final = "en"

_WORDS: Final[Mapping[tuple[Kind, str], tuple[str, str]]] = {
    (Kind.ORDER_PLACED, "en"): (
        "Your order {number}",
        "Thank you. We have your order {number}:\n{lines}\nTotal: {total}\n",
    ),
    (Kind.ORDER_PLACED, "es"): (
        "Tu pedido {number}",
        "Gracias. Tenemos tu pedido {number}:\n{lines}\nTotal: {total}\n",
    ),
    (Kind.PAYMENT_UNKNOWN, "en"): (
        "We are checking the payment for {number}",
        (
            "Your bank has not answered us yet. We keep your goods for you and ask until we know:\n{lines}\nTotal: {total}\n"
            "You need not do anything, and you will not be charged twice. We will write as soon as we know.\n"
        ),
    ),
    (Kind.PAYMENT_UNKNOWN, "es"): (
        "Estamos comprobando el pago de {number}",
        (
            "Tu banco aún no nos ha respondido. Te guardamos los artículos y preguntamos hasta saberlo:\n{lines}\n"
            "Total: {total}\nNo tienes que hacer nada y no se te cobrará dos veces. Te escribiremos en cuanto lo sepamos.\n"
        ),
    ),
    (Kind.PAYMENT_RESOLVED, "en"): (
        "The payment for {number} went through",
        "Your bank has answered: {total} was paid once, and the order is placed.\n",
    ),
    (Kind.PAYMENT_RESOLVED, "es"): (
        "El pago de {number} se completó",
        "Tu banco ha respondido: se pagaron {total} una sola vez, y el pedido está hecho.\n",
    ),
    (Kind.PAYMENT_FAILED, "en"): (
        "The payment for {number} did not come about",
        "Nothing was charged, and your cart is still there:\n{lines}\nTotal: {total}\n",
    ),
    (Kind.PAYMENT_FAILED, "es"): (
        "El pago de {number} no se completó",
        "No se te cobró nada, y tu carrito sigue ahí:\n{lines}\nTotal: {total}\n",
    ),
    (Kind.READY, "en"): (
        "Your order {number} is ready to be picked up",
        "Your code is {code}. Show it, or the picture of it, at {place}.\n{lines}\nWe keep it until {collect_by}.\n",
    ),
    (Kind.READY, "es"): (
        "Tu pedido {number} está listo para recoger",
        "Tu código es {code}. Muéstralo, o su imagen, en {place}.\n{lines}\nTe lo guardamos hasta el {collect_by}.\n",
    ),
    (Kind.REMINDER, "en"): (
        "Your order {number} is waiting for you",
        "It is still at {place}, and we keep it until {collect_by}. Your code is {code}.\n{lines}\n",
    ),
    (Kind.REMINDER, "es"): (
        "Tu pedido {number} te espera",
        "Sigue en {place}, y te lo guardamos hasta el {collect_by}. Tu código es {code}.\n{lines}\n",
    ),
    (Kind.SHIPPED, "en"): (
        "Your order {number} is on its way",
        "{lines}\nCarrier: {carrier}\nTracking number: {tracking}\n",
    ),
    (Kind.SHIPPED, "es"): (
        "Tu pedido {number} está en camino",
        "{lines}\nTransportista: {carrier}\nNúmero de seguimiento: {tracking}\n",
    ),
    (Kind.HANDED_OVER, "en"): (
        "You picked up {number}",
        "Thank you for coming to {place}:\n{lines}\n",
    ),
    (Kind.HANDED_OVER, "es"): (
        "Has recogido {number}",
        "Gracias por venir a {place}:\n{lines}\n",
    ),
    (Kind.CANCELLED, "en"): (
        "Your order {number} is cancelled",
        "It will not come:\n{lines}\nWhat you paid for it is on its way back to you.\n",
    ),
    (Kind.CANCELLED, "es"): (
        "Tu pedido {number} está cancelado",
        "No llegará:\n{lines}\nLo que pagaste por él ya va de vuelta.\n",
    ),
    (Kind.PARTLY_CANCELLED, "en"): (
        "A part of your order {number} is cancelled",
        "This will not come:\n{lines}\nWhat you paid for it is on its way back to you.\n",
    ),
    (Kind.PARTLY_CANCELLED, "es"): (
        "Una parte de tu pedido {number} está cancelada",
        "Esto no llegará:\n{lines}\nLo que pagaste por ello ya va de vuelta.\n",
    ),
    (Kind.NOT_COLLECTED, "en"): (
        "Your order {number} was not picked up",
        (
            "We kept it at {place} until {collect_by}, and it is cancelled now:\n{lines}\n"
            "What you paid for it is on its way back to you.\n"
        ),
    ),
    (Kind.NOT_COLLECTED, "es"): (
        "No se recogió tu pedido {number}",
        (
            "Lo guardamos en {place} hasta el {collect_by}, y ahora está cancelado:\n{lines}\n"
            "Lo que pagaste por él ya va de vuelta.\n"
        ),
    ),
    (Kind.NEW_PASSWORD, "en"): (
        "Your code to set a password",
        "Your code is {code}, and it is good for half an hour. Did not ask for it? Then you need not do anything.\n",
    ),
    (Kind.NEW_PASSWORD, "es"): (
        "Tu código para fijar una contraseña",
        "Tu código es {code} y vale media hora. ¿No lo pediste? Entonces no tienes que hacer nada.\n",
    ),
    (Kind.REFUNDED, "en"): (
        "Your refund for {number}",
        "We gave back {amount}, over what you paid with. A bank may take some days to show it.\n",
    ),
    (Kind.REFUNDED, "es"): (
        "Tu reembolso de {number}",
        "Te devolvimos {amount} por el medio con el que pagaste. El banco puede tardar unos días en mostrarlo.\n",
    ),
}


def words(kind: Kind, locale: str) -> tuple[str, str]:
    """Subject and text, to be filled in, in the language of a locale or else in English."""
    language = locale.partition("-")[0]
    return _WORDS.get((kind, language)) or _WORDS[kind, LANGUAGE_DEFAULT]
