/* tdev.h: what the files of training on a device share. */
#ifndef WKC_TDEV_H
#define WKC_TDEV_H

#include "engine/train/device.h"
#include "gpu/cuda/exec.h"
#include "gpu/cuda/grad/tblas.h"
#include "gpu/cuda/grad/tkernels.h"

/* Numbers of a batch, as int32, that are sent for each run: where each list begins, in numbers. Fixed for max_tok. */
typedef struct wkc_tframe {
    size_t tok, pos, target, out, back, order, start, tile, n;
} wkc_tframe;

struct wk_tdev {
    wk_dev *dev;
    const wk_grad *g;
    wk_tdev_options o;
    cudaStream_t stream;
    uint8_t *memory;             /* all that follows is cut from it */
    float *arena[WK_TDEV_ARENA_COUNT];
    float **weight;              /* [n_weight] in the parameters, or frozen */
    uint8_t *values;
    float *logits;               /* [chunk][n_vocab] */
    int32_t chunk;
    float **cs, **cs_back;       /* [n_rope] [max_tok][n_rot]: cos and sin, cos and -sin */
    double **freq;
    double *loss, *part;         /* [max_tok]; [WKC_TNORM_BLOCKS] */
    int32_t *block, *block_host; /* device, pinned */
    double *sums_host;           /* pinned, the longer of loss and part */
    wkc_tframe frame;
    wkc_blas *blas;              /* NULL: own kernels */
    void *workspace;             /* of it */
    uint16_t *half[2];           /* operands as bf16, for it */
    int blas_status;             /* the first that is not 0 */
    char about[224];
    /* of the running call */
    int32_t n_tok, n_out, n_tile, n_id;
    bool backward;
};

const char *wkc_top_name(int op);
/* What cuBLASLt wants beside the rest. */
typedef struct wkc_tspace {
    bool blas, bf16;
} wkc_tspace;
/* tmem.cu: memory, its bytes (SIZE_MAX: overflow), and the weights as f32. */
size_t wkc_tbytes(const wk_grad *g, wkc_tspace s);
int wkc_tmake(wk_tdev *d, wk_err *err);
void wkc_tdrop(wk_tdev *d);
int wkc_tload(wk_tdev *d, wk_err *err);
/* tsteps.cu: whether all steps have kernels; one step's launches. */
int wkc_tcan(const wk_grad *g, wk_err *err);
int wkc_tstep(wk_tdev *d, const wk_tstep *s, wk_err *err);
/* tproduct.cu: products as the options want them. */
int wkc_tproduct_open(wk_tdev *d, wk_err *err);
bool wkc_tproduct_uses_blas(const wk_tdev_options *o);
int wkc_tproduct_judge(wk_tdev *d, wk_err *err); /* of those that were launched */
void wkc_tproduct(wk_tdev *d, wkc_gemm_op op, int m, int n, int k, float alpha, const float *a, const float *b, bool add,
                  float *c);
/* trun.cu */
int wkc_trun(wk_tdev *d, const wk_tbatch *b, bool backward, wk_tloss *out, wk_err *err);
int wkc_task(const wk_tdev *d, wk_err *err); /* whether the host wants a launch to fail */

#endif
