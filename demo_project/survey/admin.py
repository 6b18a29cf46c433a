from __future__ import annotations

from django.contrib import admin

from demo_project.survey.models import Observation, Place, Tag


@admin.register(Place)
class PlaceAdmin(admin.ModelAdmin):
    list_display = ["name", "country_code", "population", "timezone"]
    search_fields = ["name"]
    list_filter = ["country_code"]
    show_full_result_count = False


@admin.register(Observation)
class ObservationAdmin(admin.ModelAdmin):
    list_display = ["species", "count", "place", "observer", "observed_at"]
    search_fields = ["species", "note"]
    list_select_related = ["place"]
    autocomplete_fields = ["place", "tags"]


@admin.register(Tag)
class TagAdmin(admin.ModelAdmin):
    search_fields = ["name"]
