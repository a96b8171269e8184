// One block an image: deflections, light, optics and noise in shared memory, one write.
//
// What is generated stands before this text: LG_* constants, `lg_inputs`, and the formulas in functions lg_stage,
// lg_macro, lg_light, lg_noise and structs lg_slots0, lg_slots1, ... (image_block.py writes them).
//
// Samples are where light is kept: pixels if rays are averaged first (LG_SUB x LG_SUB rays each), else rays. A warp takes
// a tile of 16 x 8 samples, four in a column to each lane: what is loaded for a lens serves four rays.

const int LG_LANE_SAMPLES = 4;

LG_FUNCTION lg_memory<float> lg_workspace(float* memory, int at) {  // of this block
    return lg_memory<float>{memory + ((long long)lg_opaque(LG_BLOCK) * LG_WORKSPACE + at)};
}

LG_FUNCTION void lg_four_uniforms(float* u, int block, unsigned int name, long long index, unsigned int k0, unsigned int k1) {
    const lg_word4 words = lg_words(block, name, index, k0, k1);
    u[0] = lg_uniform_float(words.w0), u[1] = lg_uniform_float(words.w1);
    u[2] = lg_uniform_float(words.w2), u[3] = lg_uniform_float(words.w3);
}

struct lg_ray_group {  // the four samples of one lane in one tile
    int column, row, lane;
    LG_MEMBER lg_ray_group(int t, int first_tile) {
        const int tile = first_tile + t / 32;
        lane = t % 32;
        column = 16 * (tile % LG_TILES_X) + lane % 16;
        row = 8 * (tile / LG_TILES_X) + lane / 16;  // and every second one below
    }
    LG_MEMBER float x(const lg_inputs& in, int sub) const {
        return in.x_axis[LG_SUB * min(column, LG_WIDTH - 1) + sub % LG_SUB];
    }
    LG_MEMBER float y(const lg_inputs& in, int sub, int p) const {
        return in.y_axis[LG_SUB * min(row + 2 * p, LG_HEIGHT - 1) + sub / LG_SUB];
    }
};

// ---- the far field of many lenses; see far_field.py -----------------------------------------------------------------

// A lane's node: each half of a tile has 4 x 4 of them, in half tiles from its centre.
struct lg_far_tile {
    float x, y;  // of the node
    float left_x, right_x, centre_y;  // of both halves
    LG_MEMBER lg_far_tile(const lg_inputs& in, int tile, int lane, int sub) {
        const float half = LG_HALF_TILE * in.spacing;
        left_x = in.x_axis[sub % LG_SUB] + (16 * (tile % LG_TILES_X)) * in.spacing + half;
        right_x = left_x + 8.0f * in.spacing;
        centre_y = in.y_axis[sub / LG_SUB] + (8 * (tile / LG_TILES_X)) * in.spacing + half;
        x = (lane < 16 ? left_x : right_x) + half * lg_node_places[lane % 4];
        y = centre_y + half * lg_node_places[lane / 4 % 4];
    }
    LG_MEMBER bool near(float cx, float cy, float near_squared) const {
        const float dx = lg_min(fabsf(left_x - cx), fabsf(right_x - cx)), dy = centre_y - cy;
        return !(dx * dx + dy * dy >= near_squared);
    }
};

LG_FUNCTION float lg_near_squared(float m, float spacing) {
    const float half = LG_HALF_TILE * spacing;
    const float near = half * lg_max(LG_NEAREST, LG_SPREAD + powf(m / (4.0f * half * LG_EPSILON), 0.2f));
    return near * near;
}

// Along x first: the sums at nodes become those at 8 columns of 4 rows of nodes.
LG_FUNCTION void lg_widen(int tiles, lg_memory<float> node, lg_memory<float> wide) {
    LG_EACH(k, tiles * 64) {
        const int row = k / 8, column = k % 8;  // of nodes, of samples
        float total = 0.0f;
        LG_UNROLL for (int j = 0; j < 4; j++) total += lg_interpolation[4 * column + j] * node[4 * row + j];
        wide[k] = total;
    }
}

LG_FUNCTION float lg_far_at(lg_memory<float> wide, int t, int row) {  // row of the tile
    float total = 0.0f;
    LG_UNROLL for (int i = 0; i < 4; i++)
        total += lg_interpolation[4 * row + i] * wide[64 * (t / 32) + 32 * (t % 16 / 8) + 8 * i + t % 8];
    return total;
}

// ---- lenses of which a system has several -------------------------------------------------------------------------

// What the memory of a batch of slots holds, in floats: the numbers that a formula needs once a slot, then for those
// with tables a head of LG_HEAD numbers (first segment, limit) and the tables.
enum { LG_FIRST = 0, LG_LIMIT = 1, LG_NEAR = 2, LG_HEAD = 4 };

// Tables hold m = M z, the deflection being M (dx, dy), as a cubic on each half of a power of two of z = dx^2 + dy^2.
template <class Slots>
LG_FUNCTION void lg_fill_tables(const lg_inputs& in, int count, lg_memory<float> once, lg_memory<float> head,
                                lg_memory<float> table) {
    LG_EACH(slot, count) {
        const lg_memory<float> own = once + slot * Slots::once;
        const float cx = Slots::center_x(own), cy = Slots::center_y(own);
        // nodes of tiles at the edge reach beyond the rays
        const float reach_x = lg_max(fabsf(in.x_axis[0] - cx), fabsf(in.x_axis[0] + LG_TILES_X * 16 * in.spacing - cx));
        const float reach_y = lg_max(fabsf(in.y_axis[0] - cy), fabsf(in.y_axis[0] + LG_TILES_Y * 8 * in.spacing - cy));
        // a little more, so that no ray is beyond the last segment by its rounding
        const float reach = (reach_x * reach_x + reach_y * reach_y) * 1.000001f;
        const int first = (lg_bits(reach) >> LG_SHIFT) - (LG_SEGMENTS - 1);
        head[LG_HEAD * slot + LG_FIRST] = lg_from_bits(first);
        head[LG_HEAD * slot + LG_LIMIT] = lg_from_bits(first << LG_SHIFT);
        if (Slots::far) {
            const float m = fabsf(Slots::M(reach, own)) * reach;
            head[LG_HEAD * slot + LG_NEAR] = lg_near_squared(m, in.spacing);
        }
    }
    LG_BARRIER();
    LG_EACH(k, count * LG_SEGMENTS) {
        const int slot = k / LG_SEGMENTS, segment = k % LG_SEGMENTS;
        const lg_memory<float> own = once + slot * Slots::once;
        const int bits = (lg_bits(head[LG_HEAD * slot + LG_FIRST]) + segment) << LG_SHIFT;
        const float start = lg_from_bits(bits), unit = lg_from_bits(bits & 0x7F800000);
        lg_four cubic = {0.0f, 0.0f, 0.0f, 0.0f};
        LG_ROLLED for (int node = 0; node < 4; node++) {
            const float z = start + unit * lg_nodes[5 * node];
            const float m = Slots::M(z, own) * z;
            cubic.a += lg_nodes[5 * node + 1] * m, cubic.b += lg_nodes[5 * node + 2] * m;
            cubic.c += lg_nodes[5 * node + 3] * m, cubic.d += lg_nodes[5 * node + 4] * m;
        }
        lg_store4(table, 4 * k, cubic);
    }
    LG_BARRIER();
    // where a profile has an edge neighbouring cubics disagree: then the slot is worked out in closed form
    LG_EACH(k, count * (LG_SEGMENTS - 1)) {
        const int slot = k / (LG_SEGMENTS - 1), segment = k % (LG_SEGMENTS - 1);
        const lg_four left = lg_load4(table, 4 * (slot * LG_SEGMENTS + segment));
        const lg_four right = lg_load4(table, 4 * (slot * LG_SEGMENTS + segment + 1));
        const float t = LG_HALF_SEGMENT;
        const float end = left.a + t * (left.b + t * (left.c + t * left.d));
        const float begin = right.a - t * (right.b - t * (right.c - t * right.d));
        if (!(fabsf(end - begin) <= LG_TABLE_TOLERANCE * fabsf(end))) lg_raise(head, LG_HEAD * slot + LG_LIMIT, 1e38f);
    }
    LG_BARRIER();
}

// Adds to the deflections at `count` positions those of one slot.
template <class Slots, int COUNT>
LG_FUNCTION void lg_add_slot(const float* x, const float* y, float* ax, float* ay, int slot, lg_memory<float> once,
                             lg_memory<float> head, lg_memory<float> table, const lg_inputs& in) {
    const lg_memory<float> own = once + slot * Slots::once;
    if (!Slots::tabulated) {
        Slots::template add<COUNT>(x, y, ax, ay, own, in);
        return;
    }
    const float cx = Slots::center_x(own), cy = Slots::center_y(own);
    const int segment = lg_bits(head[LG_HEAD * slot + LG_FIRST]), first = segment - slot * LG_SEGMENTS;
    const float limit = head[LG_HEAD * slot + LG_LIMIT], start = lg_from_bits(segment << LG_SHIFT);
    float z[COUNT], M[COUNT], nearest = limit;
    LG_UNROLL for (int p = 0; p < COUNT; p++) {
        const float dx = x[p] - cx, dy = y[p] - cy;
        z[p] = dx * dx + dy * dy;
        nearest = fminf(nearest, z[p]);
        const int bits = lg_bits(fmaxf(z[p], start));  // never before the table, even where z is not a number
        const lg_four c = lg_load4(table, 4 * ((bits >> LG_SHIFT) - first));
        const float t = lg_from_bits((bits & ((1 << LG_SHIFT) - 1)) | 0x3F800000) - (1.0f + LG_HALF_SEGMENT);
        M[p] = lg_quotient(c.a + t * (c.b + t * (c.c + t * c.d)), z[p]);
    }
    if (nearest < limit) {  // rare: rays too close for the table; one copy of the formula for all of them
        LG_ROLLED for (int p = 0; p < COUNT; p++) {
            float chosen = z[0];
            LG_UNROLL for (int k = 1; k < COUNT; k++) chosen = k == p ? z[k] : chosen;
            if (!(chosen < limit)) continue;
            const float value = Slots::M(chosen, own);
            LG_UNROLL for (int k = 0; k < COUNT; k++) M[k] = k == p ? value : M[k];
        }
    }
    LG_UNROLL for (int p = 0; p < COUNT; p++) {
        ax[p] += M[p] * (x[p] - cx);
        ay[p] += M[p] * (y[p] - cy);
    }
}

// The deflections of all slots of one kind at the samples of a band of tiles, a batch of slots at a time.
template <class Slots>
LG_FUNCTION void lg_add_slots(const lg_inputs& in, int image, int first_tile, int tiles, int sub,
                              lg_memory<float> batch, lg_memory<float> sum_x, lg_memory<float> sum_y,
                              lg_memory<float> node_x, lg_memory<float> node_y) {
    const lg_memory<float> table = batch, head = table + (Slots::tabulated ? Slots::batch * LG_SEGMENTS * 4 : 0);
    const lg_memory<float> once = head + (Slots::tabulated ? Slots::batch * LG_HEAD : 0);
    const int slots = (int)Slots::count(in, image);
    for (int start = 0; start < slots; start += Slots::batch) {
        const int count = min(slots - start, (int)Slots::batch);
        LG_EACH(slot, count) Slots::stage(in, image, start + slot, once + slot * Slots::once);
        LG_BARRIER();
        if (Slots::tabulated) lg_fill_tables<Slots>(in, count, once, head, table);
        LG_EACH(t, tiles * 32) {
            const lg_ray_group rays(t, first_tile);
            const float xx = rays.x(in, sub);
            float x[4], y[4], ax[4] = {0.0f, 0.0f, 0.0f, 0.0f}, ay[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            LG_UNROLL for (int p = 0; p < 4; p++) x[p] = xx, y[p] = rays.y(in, sub, p);
            if (Slots::far) {
                const lg_far_tile tile(in, first_tile + t / 32, rays.lane, sub);
                float fx = 0.0f, fy = 0.0f;
                for (int slot = 0; slot < count; slot++) {
                    const lg_memory<float> own = once + slot * Slots::once;
                    if (tile.near(Slots::center_x(own), Slots::center_y(own), head[LG_HEAD * slot + LG_NEAR]))
                        lg_add_slot<Slots, 4>(x, y, ax, ay, slot, once, head, table, in);
                    else
                        lg_add_slot<Slots, 1>(&tile.x, &tile.y, &fx, &fy, slot, once, head, table, in);
                }
                node_x[t] += fx;
                node_y[t] += fy;
            } else {
                LG_ROLLED for (int slot = 0; slot < count; slot++) {
                    lg_add_slot<Slots, 4>(x, y, ax, ay, slot, once, head, table, in);
                }
            }
            LG_UNROLL for (int p = 0; p < 4; p++) {
                sum_x[p * LG_BAND * 32 + t] += ax[p];
                sum_y[p * LG_BAND * 32 + t] += ay[p];
            }
        }
        LG_BARRIER();  // before the next batch takes its place
    }
}

// ---- light ----------------------------------------------------------------------------------------------------------

LG_FUNCTION void lg_shine(const lg_inputs& in, int image, int first_tile, int tiles, int sub, lg_memory<float> once,
                          lg_memory<float> sum_x, lg_memory<float> sum_y, lg_memory<float> wide_x,
                          lg_memory<float> wide_y, lg_memory<float> light) {
    LG_EACH(t, tiles * 32) {
        const lg_ray_group rays(t, first_tile);
        const float xx = rays.x(in, sub);
        LG_ROLLED for (int first = 0; first < LG_LANE_SAMPLES && lg_afresh(); first += LG_P) {
            float x[LG_P], y[LG_P], ax[LG_P], ay[LG_P], light_of[LG_P];
            LG_UNROLL for (int p = 0; p < LG_P; p++) {
                x[p] = xx, y[p] = rays.y(in, sub, first + p), ax[p] = 0.0f, ay[p] = 0.0f, light_of[p] = 0.0f;
                // many small deflections are added to one another before large ones: that loses less to rounding
                if (LG_SLOTTED) {
                    const int at = (first + p) * LG_BAND * 32 + t;
                    ax[p] = sum_x[at], ay[p] = sum_y[at];
                }
                if (LG_FAR) {
                    const int row = rays.lane / 16 + 2 * (first + p);
                    ax[p] += lg_far_at(wide_x, t, row), ay[p] += lg_far_at(wide_y, t, row);
                }
            }
            lg_shine_at<LG_P>(x, y, ax, ay, light_of, once, in, image);
            LG_UNROLL for (int p = 0; p < LG_P; p++) {
                const int row = rays.row + 2 * (first + p), at = row * LG_WIDTH + rays.column;
                if (row < LG_HEIGHT && rays.column < LG_WIDTH) {
                    const float value = in.area * light_of[p];
                    if (sub == 0) light[at] = value;
                    else light[at] += value;
                }
            }
        }
    }
}

// ---- optics ---------------------------------------------------------------------------------------------------------

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
// weights of every S-th row side by side, between three zeros (image_block.dense_weights).
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

// ---- noise, and the one write ---------------------------------------------------------------------------------------

LG_FUNCTION void lg_write(const lg_inputs& in, int image, lg_memory<float> once, lg_memory<float> pixels) {
    LG_EACH(t, (LG_PIXELS + 3) / 4) {
        const lg_uniforms u(in, image, t);
        float values[4];
        LG_UNROLL for (int k = 0; k < 4; k++) {
            const int p = 4 * t + k;
            values[k] = LG_PIXELS % 4 == 0 || p < LG_PIXELS ? lg_noise(pixels[p], k, u, once) : 0.0f;
            if (!(fabsf(values[k]) <= 3.4e38f)) in.bad[image] = true;
        }
        if (LG_PIXELS % 4 == 0) {
            lg_store4_global(in.out, (long long)image * LG_PIXELS + 4 * t, {values[0], values[1], values[2], values[3]});
        } else {
            LG_UNROLL for (int k = 0; k < 4; k++)
                if (4 * t + k < LG_PIXELS) in.out[(long long)image * LG_PIXELS + 4 * t + k] = values[k];
        }
    }
}

LG_KERNEL(LG_BLOCKS_AT_ONCE) lg_render(LG_ARGUMENT lg_inputs in) {
    LG_SHARED_MEMORY(shared);
    const lg_memory<float> once = lg_place<float>(shared, LG_AT_ONCE), batch = lg_place<float>(shared, LG_AT_BATCH);
    const lg_memory<float> sum_x = lg_place<float>(shared, LG_AT_SUM_X), sum_y = lg_place<float>(shared, LG_AT_SUM_Y);
    const lg_memory<float> node_x = lg_place<float>(shared, LG_AT_NODE_X), node_y = lg_place<float>(shared, LG_AT_NODE_Y);
    const lg_memory<float> wide_x = lg_place<float>(shared, LG_AT_WIDE_X), wide_y = lg_place<float>(shared, LG_AT_WIDE_Y);
    for (int image = LG_BLOCK; image < (int)in.images; image += LG_BLOCKS) {
        lg_stage(in, image, once);
        LG_EACH(t, 1) in.bad[image] = false;
        LG_BARRIER();
        LG_ROLLED for (int sub = 0; sub < LG_SUB * LG_SUB; sub++) {
            LG_ROLLED for (int first_tile = 0; first_tile < LG_TILES; first_tile += LG_BAND) {
                const int tiles = min(LG_BAND, LG_TILES - first_tile);
                if (LG_SLOTTED) {
                    LG_EACH(t, tiles * 32) {
                        LG_UNROLL for (int p = 0; p < LG_LANE_SAMPLES; p++)
                            sum_x[p * LG_BAND * 32 + t] = 0.0f, sum_y[p * LG_BAND * 32 + t] = 0.0f;
                        if (LG_FAR) node_x[t] = 0.0f, node_y[t] = 0.0f;
                    }
                    lg_add_all_slots(in, image, first_tile, tiles, sub, batch, sum_x, sum_y, node_x, node_y);
                    if (LG_FAR) {
                        LG_BARRIER();  // an image without slots has passed none
                        lg_widen(tiles, node_x, wide_x);
                        lg_widen(tiles, node_y, wide_y);
                        LG_BARRIER();
                    }
                }
                lg_shine(in, image, first_tile, tiles, sub, once, sum_x, sum_y, wide_x, wide_y, LG_LIGHT);
                if (LG_FAR) LG_BARRIER();  // what is wide is made anew
            }
        }
        LG_BARRIER();
        lg_write(in, image, once, lg_optics(in, image, LG_LIGHT, LG_SPARE));
        LG_BARRIER();  // before the next image takes its place
    }
}
