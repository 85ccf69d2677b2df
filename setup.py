"""Import names of the installed package; everything else is in pyproject.toml.

The code is installed as `heretic_lab`, and as `heretic` an alias that other packages of that name may replace
(src/heretic_lab/__init__.py).
"""

from setuptools import find_packages, setup

setup(
    packages=["heretic", "heretic_lab", *(f"heretic_lab.{name}" for name in find_packages("src/heretic"))],
    package_dir={"heretic_lab": "src/heretic", "heretic": "src/heretic_lab"},
)
