# sources.cmake: what libwick_cuda.so and its emulated sister (tests/cuda_emu) are made of. The module links nothing of
# libwick: the table of formats is compiled into it.
set(WKC_SOURCES backend.cu prepare.cu upload.cu steps.cu run.cu measure.cu rows.cu
    matrix.cu repack.cpp team.cpp quant.cu gemv.cu gemm.cu float.cu embed.cu
    kv.cu attn.cu attn_split.cu attn_tile.cu attn_mma.cu top.cu
    grad/trainer.cu grad/tmem.cu grad/tsteps.cu grad/trun.cu grad/tgemm.cu grad/tgemm_bf16.cu grad/tproduct.cu grad/tblas.cu
    grad/trows.cu grad/tattn.cu grad/tloss.cu)
list(TRANSFORM WKC_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
set(WKC_SIMD format.c
    quant/f32.c quant/f16.c quant/bf16.c
    quant/q4_0.c quant/q4_1.c quant/q5_0.c quant/q5_1.c quant/q8_0.c
    quant/fit.c quant/q2_k.c quant/q3_k.c quant/q4_k.c quant/q5_k.c quant/q6_k.c
    quant/iq4_nl.c quant/iq4_xs.c quant/mxfp4.c quant/tq1_0.c quant/tq2_0.c
    quant/grid.c quant/iq2_xxs.c quant/iq2_xs.c quant/iq2_s.c quant/iq3_xxs.c quant/iq3_s.c)
list(TRANSFORM WKC_SIMD PREPEND ${PROJECT_SOURCE_DIR}/simd/)
