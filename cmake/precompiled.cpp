// Nothing: the precompiled header (precompiled.h) needs a source to belong to.
