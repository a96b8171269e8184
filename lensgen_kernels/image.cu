// One block an image: deflections, light, optics and noise in shared memory, one write.
//
// What is generated stands before this text: LG_* constants, `lg_inputs`, and the formulas in functions lg_stage,
// lg_add_all_slots, lg_shine_at, lg_optics and lg_noise (image_block.py writes them between lenses.h and optics.h).

LG_FUNCTION lg_memory<float> lg_workspace(float* memory, int at) {  // of this block
    return lg_memory<float>{memory + ((long long)lg_opaque(LG_BLOCK) * LG_WORKSPACE + at)};
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
        LG_EACH(t, 1) in.bad[image] = lg_wrong_count(in, image);
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
