"""Adding, editing and deleting observations."""

from __future__ import annotations

from typing import Any

from django.forms import ModelForm
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.views.generic import CreateView, DeleteView, UpdateView

from demo_project.survey.forms import ObservationForm
from demo_project.survey.models import Observation, Place


class AddObservation(CreateView):
    """A new observation at the place in the address, by whoever is signed in."""

    form_class = ObservationForm
    template_name = "survey/observation_form.html"

    def get_place(self) -> Place:
        return get_object_or_404(Place, pk=self.kwargs["place"])

    def form_valid(self, form: ModelForm) -> HttpResponse:
        form.instance.place = self.get_place()
        form.instance.observer = self.request.user.get_username()
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(place=self.get_place(), **kwargs)


class EditObservation(UpdateView):
    """Change an observation. Beside the form stands what the database holds now, should others edit it too."""

    model = Observation
    form_class = ObservationForm
    template_name = "survey/observation_form.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        stored = Observation.objects.prefetch_related("tags").get(pk=self.object.pk)
        return super().get_context_data(place=stored.place, stored=stored, **kwargs)


class DeleteObservation(DeleteView):
    """Ask, then delete."""

    model = Observation
    template_name = "survey/observation_delete.html"

    def get_success_url(self) -> str:
        return str(self.object.get_absolute_url())
