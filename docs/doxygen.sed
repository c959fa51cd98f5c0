# Marks plain comments for Doxygen: a comment on lines of its own belongs to what follows, one behind code to that code.
# Comparisons that the compiler writes need no words: their lines are left empty.
/operator[=<>]*(.*= default;/s/.*//
/NOLINT/s,//.*,,
/^ *\/\//s,//,///,
/^ *\/\/\//!s,  // ,  ///< ,
