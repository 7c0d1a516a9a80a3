/* SPDX-License-Identifier: Apache-2.0 */
/* What a PoP says of a model is written anew from what is understood of it, within the bounds that
 * a worker has: it is shown to whoever looks at the endpoint. */
#include "base/json.h"
#include "control/report.h"

enum { TENSORS_MAX = 64, RANK_MAX = 16, PROPERTIES_MAX = 64 }; /* PERIGEE_TENSORS_MAX ... */

static void write_shape(struct json_writer *w, yyjson_val *shape)
{
    yyjson_arr_iter iter;
    size_t count = 0;
    json_key(w, "shape");
    json_array_begin(w);
    yyjson_arr_iter_init(shape, &iter);
    for (yyjson_val *dim; (dim = yyjson_arr_iter_next(&iter)) && count < RANK_MAX; count++)
        json_i64(w, yyjson_is_int(dim) ? yyjson_get_sint(dim) : -1);
    json_array_end(w);
}

static void write_tensors(struct json_writer *w, yyjson_val *model, const char *key)
{
    yyjson_arr_iter iter;
    size_t count = 0;
    json_key(w, key);
    json_array_begin(w);
    yyjson_arr_iter_init(json_member(model, key), &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter)) && count < TENSORS_MAX; count++) {
        yyjson_val *optional = json_member(item, "optional");
        json_object_begin(w);
        json_member_string(w, "name", json_slice(json_member(item, "name")));
        json_member_string(w, "datatype", json_slice(json_member(item, "datatype")));
        write_shape(w, json_member(item, "shape"));
        if (yyjson_is_bool(optional))
            json_member_bool(w, "optional", yyjson_get_bool(optional));
        json_object_end(w);
    }
    json_array_end(w);
}

static void write_properties(struct json_writer *w, yyjson_val *properties)
{
    yyjson_obj_iter iter;
    size_t count = 0;
    json_key(w, "properties");
    json_object_begin(w);
    yyjson_obj_iter_init(properties, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter)) && count < PROPERTIES_MAX; count++) {
        json_key_slice(w, json_slice(key));
        json_string(w, json_slice(yyjson_obj_iter_get_val(key)));
    }
    json_object_end(w);
}

struct slice report_model_json(struct arena *arena, yyjson_val *model)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "platform", json_slice(json_member(model, "platform")));
    write_tensors(&w, model, "inputs");
    write_tensors(&w, model, "outputs");
    write_properties(&w, json_member(model, "properties"));
    json_object_end(&w);
    struct slice text = json_end(&w);
    return text.size <= REPORT_METADATA_BYTES_MAX ? text : (struct slice){};
}
