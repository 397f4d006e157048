"""A pytest plugin for mutations: a failing history need not be made small, only found."""

from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate], deadline=None, database=None)
settings.load_profile("unshrunk")
