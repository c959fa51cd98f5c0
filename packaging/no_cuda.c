// Stands for LibTorch's CUDA half and for the CUDA runtime where LibTorch is without CUDA, so that one package serves
// both. Compiled by scripts/package, with a STAND_IN(name) for every function that program and plugins take from these
// libraries.
#include <stdio.h>
#include <stdlib.h>

__attribute__((noreturn)) static void no_cuda(const char* name) {
  fprintf(stderr, "espalier: %s was called, and this LibTorch is without CUDA\n", name);
  abort();
}

// No device is ever chosen, so nothing calls these.
#define STAND_IN(name) \
  void name(void);     \
  void name(void) { no_cuda(#name); }

// Kernels register themselves when their library is loaded: that has to pass.
#define REGISTRATION(name) \
  void* name(void);        \
  void* name(void) {       \
    static void* handle;   \
    return &handle;        \
  }

#include "stand_ins.inc"
