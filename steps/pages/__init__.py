"""What a person looks at: tables, plots, HTML pages that load nothing. Tools and flows use it; no step does."""
