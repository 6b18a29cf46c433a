from django.contrib import admin

from catalog.models import Author, Book, Classic, Draft

admin.site.register([Author, Book, Classic, Draft])
