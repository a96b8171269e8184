// Filters from samples to pixels: a pixel's rays and the point-spread function.

// out[i] = sum_m weights[m] in[STRIDE i + m - BEFORE] along columns, then along rows. The first pass makes rows wider by
// what the second reaches beyond the edge.
template <int H_IN, int W_IN, int STRIDE, int TAPS, int BEFORE, bool ZERO>
LG_FUNCTION void lg_separable(lg_memory<float> in, lg_memory<float> spare, lg_memory<float> out, const float* weights) {
    const int H = H_IN / STRIDE, W = W_IN / STRIDE, PITCH = W_IN + TAPS - STRIDE, ROWS = 4;
    LG_EACH(t, (H + ROWS - 1) / ROWS * PITCH) {
        const int wide = t % PITCH - BEFORE, top = t / PITCH * ROWS;
        const int column = min(max(wide, 0), W_IN - 1);
        float sums[ROWS] = {};
        LG_TAPS for (int k = 0; k < TAPS + STRIDE * (ROWS - 1); k++) {
            const int row = STRIDE * top + k - BEFORE;
            const float v = ZERO && (row < 0 || row >= H_IN) ? 0.0f : (float)in[min(max(row, 0), H_IN - 1) * W_IN + column];
            LG_UNROLL for (int r = 0; r < ROWS; r++) {
                const int m = k - STRIDE * r;
                if (m >= 0 && m < TAPS) sums[r] += weights[m] * v;
            }
        }
        LG_UNROLL for (int r = 0; r < ROWS; r++)
            if (top + r < H) spare[(top + r) * PITCH + wide + BEFORE] = ZERO && wide != column ? 0.0f : sums[r];
    }
    LG_BARRIER();
    LG_EACH(t, H * W) {
        const int from = t / W * PITCH + STRIDE * (t % W);
        float sum = 0.0f;
        LG_TAPS for (int m = 0; m < TAPS; m++) sum += weights[m] * spare[from + m];
        out[t] = sum;
    }
    LG_BARRIER();
}

// out[i, j] = sum kernel[m, q] in[S i + m - before, S j + q - before], zeros beyond the edge, before = (K - S) / 2. A
// thread takes four rows of a column: each number that it reads serves them all. `kernel` is [K, S, U]: of column q, the
// weights of every S-th row side by side, between three zeros (block_optics.dense_weights).
template <int H_IN, int W_IN, int S, int K>
LG_FUNCTION void lg_dense(lg_memory<float> in, lg_memory<float> out, const float* kernel) {
    const int H = H_IN / S, W = W_IN / S, U = (K + S - 1) / S, BEFORE = (K - S) / 2, ROWS = 4;
    LG_EACH(t, (H + ROWS - 1) / ROWS * W) {
        const int j = t % W, top = t / W * ROWS;
        float sums[ROWS] = {};
        for (int q = 0; q < K; q++) {
            const int column = S * j + q - BEFORE;
            if (column < 0 || column >= W_IN) continue;
            float part[ROWS] = {};  // one sum of thousands of terms would lose two digits
            for (int c = 0; c < S; c++) {
                const float* weights = kernel + (q * S + c) * (U + 2 * (ROWS - 1));
                const int above = S * top + c - BEFORE;
                const int begin = above < 0 ? (-above + S - 1) / S : 0, end = min(U + ROWS - 1, (H_IN - 1 - above) / S + 1);
                for (int u = begin; u < end; u++) {
                    const float v = in[(above + S * u) * W_IN + column];
                    LG_UNROLL for (int r = 0; r < ROWS; r++) part[r] += weights[u + ROWS - 1 - r] * v;
                }
            }
            LG_UNROLL for (int r = 0; r < ROWS; r++) sums[r] += part[r];
        }
        LG_UNROLL for (int r = 0; r < ROWS; r++)
            if (top + r < H) out[(top + r) * W + j] = sums[r];
    }
    LG_BARRIER();
}
