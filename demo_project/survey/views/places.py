"""Browsing places."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.views.generic import DetailView, ListView

from demo_project.survey.forms import ObservationForm
from demo_project.survey.models import Observation, Place

LATEST = 8


class PlaceList(ListView):
    """All places, the largest first, or those whose name begins with ``?q=`` (``?country=`` narrows it)."""

    template_name = "survey/places.html"
    context_object_name = "places"
    paginate_by = 25

    def get_queryset(self) -> QuerySet[Place]:
        places: QuerySet[Place] = Place.objects.order_by("-population", "id")
        if query := self.request.GET.get("q", "").strip():
            places = places.filter(name__istartswith=query)
        if country := self.request.GET.get("country", "").strip():
            places = places.filter(country_code=country.upper())
        # A subquery, as a join would be grouped over all places for the few on the page.
        seen = Observation.objects.filter(place=OuterRef("pk")).order_by().values("place").annotate(n=Count("pk"))
        places = places.annotate(seen=Subquery(seen.values("n")))
        return places

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        latest = Observation.objects.select_related("place").order_by("-updated_at", "-id")[:LATEST]
        query = self.request.GET.copy()
        query.pop("page", None)
        return super().get_context_data(latest=latest, query=query.urlencode(), **kwargs)


class PlacePage(DetailView):
    """A place and its observations, with the form for a new one."""

    model = Place
    template_name = "survey/place.html"
    context_object_name = "place"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        observations = self.object.observations.prefetch_related("tags")
        return super().get_context_data(observations=observations, form=ObservationForm(), **kwargs)
