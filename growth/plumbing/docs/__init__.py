"""The OpenAPI document, made of the code that answers, and the pages that show it."""
