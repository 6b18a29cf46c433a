"""Addresses of one node of the demo."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("", include("demo_project.survey.urls"))]
