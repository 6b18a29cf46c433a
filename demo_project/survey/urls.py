from django.urls import path

from demo_project.survey.views.enter import enter
from demo_project.survey.views.observations import AddObservation, DeleteObservation, EditObservation
from demo_project.survey.views.outage import outage
from demo_project.survey.views.places import PlaceList, PlacePage

urlpatterns = [
    path("", PlaceList.as_view(), name="places"),
    path("outage/", outage, name="outage"),
    path("enter/", enter, name="enter"),
    path("places/<uuid:pk>/", PlacePage.as_view(), name="place"),
    path("places/<uuid:place>/add/", AddObservation.as_view(), name="observation-add"),
    path("observations/<uuid:pk>/", EditObservation.as_view(), name="observation-edit"),
    path("observations/<uuid:pk>/delete/", DeleteObservation.as_view(), name="observation-delete"),
]
