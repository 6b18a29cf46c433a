"""Numbers as people read them."""

from django import template

register = template.Library()


@register.filter
def thousands(number: int) -> str:
    """34006 → 34,006."""
    return f"{number:,}"
