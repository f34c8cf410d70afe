"""Pictures for people: overlays, contact sheets, previews."""
