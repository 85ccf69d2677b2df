"""The method `oblique`: each site loses its own mean difference, read so that good outputs change least."""
