#include "plan/network_tables.h"

#include "espalier/operation.h"

namespace espalier {

Value layers_of(const Graph& g) {
  Value layers = Value::list();
  for (const Node& n : g.nodes()) {
    Value parameters = Value::map();
    for (const ParamId p : n.parameters) parameters[g[p].name] = g.sizes(g[p].shape);
    layers.push_back(Value::map({{"name", n.name},
                                 {"operation", n.op->type()},
                                 {"output", g.sizes(g[n.outputs[0]].shape)},
                                 {"parameters", parameters},
                                 {"params", g.parameter_count(n)},
                                 {"macs", g.macs(n)}}));
  }
  return layers;
}

Value axes_of(const Graph& g) {
  Value axes = Value::list();
  for (size_t a = 0; a < g.axes().size(); ++a) {
    const AxisInfo& axis = g.axes()[a];
    Value makers = Value::list();
    Value readers = Value::list();
    for (const Node& n : g.nodes()) {
      bool makes = false, reads = false;
      for (const ParamId p : n.parameters) {
        for (size_t d = 0; d < g[p].shape.size(); ++d) {
          if (g[p].shape[d].reads({static_cast<int32_t>(a)})) (g[p].input[d] ? reads : makes) = true;
        }
      }
      if (makes) makers.push_back(n.name);
      if (reads) readers.push_back(n.name);
    }
    axes.push_back(Value::map(
        {{"name", axis.name}, {"size", axis.size}, {"fixed", axis.fixed}, {"made_by", makers}, {"read_by", readers}}));
  }
  return axes;
}

}  // namespace espalier
