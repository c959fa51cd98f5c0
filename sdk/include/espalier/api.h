#pragma once

// Marks what libespalier exports; everything else is hidden.
#define ESPALIER_API __attribute__((visibility("default")))

// Marks a declaration that will go with a later version: the compiler says so, with what to use instead.
#define ESPALIER_DEPRECATED(INSTEAD) [[deprecated(INSTEAD)]]
