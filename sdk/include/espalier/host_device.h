#pragma once

// A formula marked so is the same function on the CPU and in CUDA kernels.
#ifdef __CUDACC__
#define ESPALIER_HD __host__ __device__
#else
#define ESPALIER_HD
#endif
