"""What a plan says about itself: as text, as numbers, as a page."""
