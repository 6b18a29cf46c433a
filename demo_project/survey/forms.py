"""The observation form. It writes what the person changed, and nothing else."""

from __future__ import annotations

from typing import Any

from django import forms

from demo_project.survey.models import Observation


class ChangedFieldsForm(forms.ModelForm):
    """A model form that leaves alone what the person did not touch.

    A form that was open for a while holds old values. Each field carries, hidden, the value it was shown with;
    a field that still has that value keeps what the database holds by now.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.show_hidden_initial = self.instance._state.adding is False

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if cleaned is not None and not self.instance._state.adding:
            stored = forms.model_to_dict(self.instance, fields=list(self.fields))
            for name in set(cleaned) - set(self.changed_data):
                field = self._meta.model._meta.get_field(name)
                cleaned[name] = stored[name] if field.many_to_many else getattr(self.instance, name)
        return cleaned


class ObservationForm(ChangedFieldsForm):
    class Meta:
        model = Observation
        fields = ["species", "count", "note", "observed_at", "tags"]
        help_texts = {"observed_at": "UTC"}
        widgets = {
            "species": forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Common swift"}),
            "note": forms.Textarea(attrs={"rows": 3}),
            # One format for the shown and the hidden value, or an untouched date would count as changed.
            "observed_at": forms.DateTimeInput(
                attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S"
            ),
            "tags": forms.CheckboxSelectMultiple,
        }
