"""Settings of `make lab`; JUPYTER_CONFIG_PATH leads here."""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path += [str(here), str(here.parent)]

from contents import BookContents  # noqa: E402

c = get_config()  # noqa: F821
c.ServerApp.contents_manager_class = BookContents
# The look of a page to read in: custom/custom.css.
c.LabApp.custom_css = True
c.ServerApp.tornado_settings = {"static_custom_path": [str(here / "custom")]}
c.LabApp.extra_labextensions_path = [str(here / "labextensions")]
