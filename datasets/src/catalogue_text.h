#pragma once

namespace espalier {

// datasets/catalogue.json, so that the program and the plugins need no data file.
extern const char catalogue_text[];

}  // namespace espalier
