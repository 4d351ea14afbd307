"""Static pages that open by double click: the page builder, and what is shown with it."""
