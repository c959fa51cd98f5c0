#pragma once

#include <cstdint>

#include "kernel_chain.h"

namespace espalier {

#if ESPALIER_WITH_CUDA
// The passes of kernel_passes.h on a GPU, one block of threads for each filter; all pointers are to its memory. Every
// sum has one order, so that gradients and values are the same bytes each time.
template <class T>
void launch_chains(const Chains& chains, const ChainArenas<T>& arenas, const ChainTask& task, int64_t rows, int device);
template <class T>
void launch_chain_proximal(const Chains& chains, T* w, const T* scales, const T* variances, const double* rates,
                           const ChainTask& task, int64_t rows, int device);
template <class T>
void launch_chain_scale(const Chains& chains, T* w, const double* by, int64_t rows, int device);

// g += weight * w / norm for each of `count` columns of a matrix of `rows` rows; adds weight * norm to *total.
template <class T>
void launch_columns(const T* w, T* g, int64_t count, int64_t rows, double weight, double* total, int device);
#else
template <class T>
void launch_chains(const Chains&, const ChainArenas<T>&, const ChainTask&, int64_t, int) {}
template <class T>
void launch_chain_proximal(const Chains&, T*, const T*, const T*, const double*, const ChainTask&, int64_t, int) {}
template <class T>
void launch_chain_scale(const Chains&, T*, const double*, int64_t, int) {}
template <class T>
void launch_columns(const T*, T*, int64_t, int64_t, double, double*, int) {}
#endif

}  // namespace espalier
