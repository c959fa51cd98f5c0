// Debian's libtiff.a asks for the library of LERC, a compression for elevation maps, whose static form cannot be part
// of a shared library. A TIFF file that uses it is refused: these say so to libtiff.
extern "C" {
__attribute__((visibility("hidden"))) unsigned lerc_decode() {
  return 1;
}
__attribute__((visibility("hidden"))) unsigned lerc_encodeForVersion() {
  return 1;
}
__attribute__((visibility("hidden"))) unsigned lerc_getBlobInfo() {
  return 1;
}
}
