from hypothesis import settings

# A busy machine is no bug: properties are judged by what they find, not by how long one example took.
settings.register_profile("hub", deadline=None)
settings.load_profile("hub")
