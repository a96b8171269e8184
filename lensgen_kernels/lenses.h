// Rays, and the deflections of lenses of which a system has several: batches of slots, their tables, the far field.
//
// Samples are where light is kept: pixels if rays are averaged first (LG_SUB x LG_SUB rays each), else rays. A warp takes
// a tile of 16 x 8 samples, four in a column to each lane: what is loaded for a lens serves four rays.

const int LG_LANE_SAMPLES = 4;

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

// What the memory of a batch of slots holds, in floats: the tables, heads of LG_HEAD numbers (first segment, limit, near
// radius) of those with tables or a far field, and what the formula needs once a slot.
enum { LG_FIRST, LG_LIMIT, LG_NEAR, LG_HEAD };

// Where a slot's table begins and how near its near field is. The deflection of a circular lens is M (dx, dy).
template <class Slots>
LG_FUNCTION void lg_fill_heads(const lg_inputs& in, int count, lg_memory<float> once, lg_memory<float> head) {
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
}

// Tables hold m = M z as a cubic on each quarter of a power of two of z = dx^2 + dy^2.
template <class Slots>
LG_FUNCTION void lg_fill_tables(int count, lg_memory<float> once, lg_memory<float> head, lg_memory<float> table) {
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
        M[p] = lg_ratio(c.a + t * (c.b + t * (c.c + t * c.d)), z[p]);
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

// The same at the samples of a lane, LG_P at a time.
template <class Slots>
LG_FUNCTION void lg_add_to_lane(const float* x, const float* y, float* ax, float* ay, int slot, lg_memory<float> once,
                                lg_memory<float> head, lg_memory<float> table, const lg_inputs& in) {
    LG_UNROLL for (int p = 0; p < 4; p += LG_P)
        lg_add_slot<Slots, LG_P>(x + p, y + p, ax + p, ay + p, slot, once, head, table, in);
}

// The deflections of all slots of one kind at the samples of a band of tiles, a batch of slots at a time.
template <class Slots>
LG_FUNCTION void lg_add_slots(const lg_inputs& in, int image, int first_tile, int tiles, int sub,
                              lg_memory<float> batch, lg_memory<float> sum_x, lg_memory<float> sum_y,
                              lg_memory<float> node_x, lg_memory<float> node_y) {
    const lg_memory<float> table = batch, head = table + (Slots::tabulated ? Slots::batch * LG_SEGMENTS * 4 : 0);
    const lg_memory<float> once = head + (Slots::tabulated || Slots::far ? Slots::batch * LG_HEAD : 0);
    const int slots = (int)Slots::count(in, image);
    for (int start = 0; start < slots; start += Slots::batch) {
        const int count = min(slots - start, (int)Slots::batch);
        LG_EACH(slot, count) Slots::stage(in, image, start + slot, once + slot * Slots::once);
        LG_BARRIER();
        if (Slots::tabulated || Slots::far) lg_fill_heads<Slots>(in, count, once, head);
        if (Slots::tabulated) lg_fill_tables<Slots>(count, once, head, table);
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
                        lg_add_to_lane<Slots>(x, y, ax, ay, slot, once, head, table, in);
                    else
                        lg_add_slot<Slots, 1>(&tile.x, &tile.y, &fx, &fy, slot, once, head, table, in);
                }
                node_x[t] += fx;
                node_y[t] += fy;
            } else {
                LG_ROLLED for (int slot = 0; slot < count; slot++) {
                    lg_add_to_lane<Slots>(x, y, ax, ay, slot, once, head, table, in);
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
