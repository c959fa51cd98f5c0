#pragma once

// Marks what libespalier exports; everything else is hidden.
#define ESPALIER_API __attribute__((visibility("default")))
