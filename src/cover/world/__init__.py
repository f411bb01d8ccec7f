"""The built-in datasets: images and clips of the Freedoom game world, rendered to ordinary media files.

    cover.world.render         render_world(out, "quick") writes OUT/<dataset>/<split>/<class>/<file>
    cover.world.contact_sheet  write_contact_sheets(out) writes a picture for each dataset
    cover.world.presets        DATASETS, PRESETS, and which maps belong to which split

docs/world.md describes the datasets. They need ViZDoom: pip install "cover-video[demo]".
"""
