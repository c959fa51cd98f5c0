// Debian's libjpeg.a, libpng.a and libtiff.a are compiled for programs: all of it fits into a shared library but how
// their default error handlers, which nobody calls here, address the C library's stderr. This one is the plugin's own,
// seen by nobody else. No header declares it: <cstdio> would as the C library's.
#include <dlfcn.h>

extern "C" {
extern __attribute__((visibility("hidden"))) void* stderr;
void* stderr = *static_cast<void**>(dlsym(RTLD_DEFAULT, "stderr"));
}
