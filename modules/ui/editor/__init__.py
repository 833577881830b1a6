"""The Default and Notebook tabs: text editors whose texts are drafts on disk, and views of tokens and samplers."""
