from catalog.models import Author
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path


def authors(request: HttpRequest) -> HttpResponse:
    """Adds an author on POST; lists their names."""
    if "name" in request.GET:
        Author.objects.create(name=request.GET["name"])
    return HttpResponse(", ".join(Author.objects.values_list("name", flat=True)))


urlpatterns = [path("admin/", admin.site.urls), path("authors/", authors)]
