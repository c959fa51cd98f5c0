#pragma once

#include <cstdint>

#include "kernel_chain.h"

namespace espalier {

// The loops over the filters on the CPU. They run on the threads of LibTorch and give the same bytes whatever their
// number, and on every instruction set.

// Measures filters and adds gradients, as the task says.
template <class T>
void chain_pass(const Chains& chains, const ChainArenas<T>& arenas, const ChainTask& task, int64_t rows, int64_t grain);

// The proximal step of each filter of its own: w becomes the minimiser of |v - w|^2 / 2 + rate * penalty(v). rates: the
// learning rate of each family.
template <class T>
void chain_proximal_pass(const Chains& chains, T* w, const T* scales, const T* variances, const double* rates,
                         const ChainTask& task, int64_t rows, int64_t grain);

// Multiplies each filter by a number of its own.
template <class T>
void chain_scale_pass(const Chains& chains, T* w, const double* by, int64_t rows, int64_t grain);

// g += weight * w / norm for each of `count` columns of a matrix of `rows` rows; adds weight * norm to *total. norms:
// room for `count` numbers.
template <class T>
void column_pass(const T* w, T* g, int64_t count, int64_t rows, double weight, double* norms, double* total);

}  // namespace espalier
