from __future__ import annotations

from django.apps import AppConfig


class SurveyConfig(AppConfig):
    name = "demo_project.survey"
    verbose_name = "Field survey"
    default_auto_field = "django.db.models.BigAutoField"
