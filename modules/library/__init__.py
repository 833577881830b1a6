"""The models in models/: catalog, downloads, per-model settings, the demo model, and the loaded model."""
