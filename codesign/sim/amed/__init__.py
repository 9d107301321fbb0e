"""AMED's simulator, as published and exact."""
