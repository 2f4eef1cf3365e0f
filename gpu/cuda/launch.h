/* launch.h: the CUDA runtime, or its stand-in that runs kernels on the CPU (tests/cuda_emu: WKC_EMU), so that every kernel
 * is tested where no GPU is. What differs between them is behind these names:
 *
 *   WKC_LAUNCH(kernel, grid, block, shared_bytes, stream, args...)   kernel<<<...>>>(args...)
 *   WKC_SHARED(type, name)                                           extern __shared__ type name[]
 *   WKC_UNROLL                                                       #pragma unroll
 *
 * __global__, __device__, __shared__, __syncthreads, warp shuffles, votes, atomics, __dp4a, half and bfloat16 conversions,
 * streams, events, graphs and memory have their CUDA names in both. Matrix units: mma.cuh. */
#ifndef WKC_LAUNCH_H
#define WKC_LAUNCH_H

#ifdef WKC_EMU
#include "tests/cuda_emu/cuda_emu.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define WKC_LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define WKC_SHARED(type, name) extern __shared__ __align__(16) type name[]
#define WKC_UNROLL _Pragma("unroll")
#endif

#endif
