"""Plants faults, one at a time, into a copy of the package and checks that the oracles find each; those of the compiled
kernels must be found by the tests that hold them against pure PyTorch.

Run: python tests/mutants.py [PART ...]: with parts of names, only the faults of files that have one of them in theirs.
Exit status 1 if one survives, 2 if a text to be changed is not found exactly once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTANTS = [
    ("updates/sgd.py", "factors.add_to(weight, keep=keep, scale=-lr)", "factors.add_to(weight, keep=keep, scale=lr)", "sign"),
    ("updates/sgd.py", "keep = 1.0 - lr * decay", "keep = 1.0", "a forgotten decay"),
    ("updates/adam.py", "weight.mul_(1.0 - lr * decay)", "weight.mul_(1.0 - decay)", "a decay without the rate"),
    ("updates/adam.py", "-lr / (1.0 - self.beta1**steps)", "-lr", "no bias correction"),
    ("updates/rls.py", "torch.addmm(x, x, explained, alpha=-1.0).div_(root_ridge)", "torch.addmm(x, x, explained, alpha=-1.0).div_(root_ridge**2)", "a ridge for its root"),
    ("updates/rls.py", "self._see(part, explained, root_ridge)", "self._see(part.flip(1), explained, root_ridge)", "many rows of other inputs"),
    ("updates/rls.py", "@ two - origin.to(one)", "@ two", "a start that counts twice where areas merge"),
    ("updates/rls.py", "explained.addmm_(back.t(),", "explained.addmm_(seen.t(),", "the root of another covariance"),
    ("kernels/served.py", "yield index, start, stop", "yield slots[-1], start, stop", "another area learns"),
    ("kernels/pure.py", "x[start:stop])", "x[: stop - start])", "the wrong samples' inputs"),
    ("kernels/pure.py", "bias, index, Factors(delta[start:stop]))", "bias, index, Factors(delta[: stop - start]))", "the wrong samples' biases"),
    ("areas/area_map.py", "tensor[target].copy_(tensor[source])", "self.weight.value[target].copy_(self.weight.value[source])", "state not cloned"),
    ("areas/area_map.py", "self.slot[self.slot == last] = gap", "pass", "a merge that loses the moved area"),
    ("areas/slots.py", 'old[0] if name == "value" else 0', "0", "areas that forget their origin"),
    ("routing/route.py", "score_error = -scale * self.probabilities", "score_error = scale * self.probabilities", "projection's sign"),
    ("routing/route.py", "self.probabilities.gather(1, self.cell[:, None])[:, 0]", "self.probabilities.amax(1) ** 2", "the gate of no cell"),
    ("routing/router.py", "self.projection.learn(delta, x, route.groups, lr, 0.0)", "self.projection.learn(delta, x.flip(0), route.groups, lr, 0.0)", "the wrong sample's projection"),
    ("routing/route.py", "- along) / self.length", ") / self.length", "a cosine without its norm"),
    ("routing/recruiting.py", "cosine = directions @ directions[row]", "cosine = closest", "recruits that do not know each other"),
    ("conversion/building/one_route.py", "linear and self.came.ndim != 4 and", "linear and", "columns of images that choose"),
    ("conversion/building/one_route.py", "return not turned and", "return", "steps of sequences for samples"),
    ("conversion/building/choices.py", 'MODULE if of_rows else "network"', "MODULE", "rows of samples without their sample's area"),
    ("conversion/building/choices.py", 'accumulate(name.split("."), "{}.{}".format)', "reversed([*accumulate(name.split('.'), '{}.{}'.format)])", "maps for modules"),
    ("conversion/equality.py", "part.gated = True", "pass", "gates that stay open"),
    ("layers/area_linear.py", "(signal.delta * own).sum(1)", "(signal.delta * own).flip(0).sum(1)", "usefulness of other samples"),
    ("layers/area_linear.py", "below = below + self.router.error_below(trace.route", "below = self.router.error_below(trace.route", "an error of gates in place of that of the map"),
    ("layers/containers.py", "below = below + self.router.error_below(route", "below = below - self.router.error_below(route", "an error of gates of the wrong sign"),
    ("routing/router.py", "follower.learn(delta, x, route.groups, lr, 0.0)", "pass", "feedback of a router that stays behind"),
    ("routing/route.py", "if gated and self.router.feedback", "if self.router.feedback", "errors of gates that multiply nothing"),
    ("layers/area_linear.py", "part_delta = repeat_rows(trace.route.gate, len(delta))", "part_delta = repeat_rows(trace.route.gate.flip(0), len(delta))", "gates of other samples"),
    ("rows.py", "of_samples[:, None].expand(-1, rows // samples).reshape(-1)", "of_samples.repeat(rows // samples)", "the choices of other samples"),
    ("rows.py", "*of_rows.shape[1:]).sum(1)", "*of_rows.shape[1:]).mean(1)", "usefulness of one row alone"),
    ("layers/batch_norm.py", "return x.numel() > self.features and rate > 0 and not self.fixed", "return rate > 0 and not self.fixed", "statistics of one value"),
    ("layers/batch_norm.py", "return x.numel() > self.features and rate > 0 and not self.fixed", "return x.numel() > self.features and not self.fixed", "a frozen norm that goes by batches"),
    ("layers/batch_norm.py", "if context.lr_of(self):\n            self._follow", "if True:\n            self._follow", "statistics that move at no rate"),
    ("layers/batch_norm.py", "self.variance.copy_(variance)", "pass", "a running variance that stays"),
    ("layers/batch_norm.py", "1.0 / (1 + int(self.batches))", "0.5", "the mean over all batches"),
    ("layers/recurrent.py", "else of_h + sent, *", "else sent, *", "a state whose error is lost"),
    ("layers/recurrent.py", "errors = torch.stack(of_states[::-1], 1)", "errors = torch.stack(of_states, 1)", "steps in the wrong order"),
    ("layers/cells.py", "torch.cat((of_rz, of_n * r), -1)", "torch.cat((of_rz, of_n), -1)", "a reset gate that lets errors through"),
    ("layers/cells.py", "(None, of_c * f)", "(None, of_c)", "a forget gate that lets errors through"),
    ("conversion/following/recurrent.py", "torch.cat((y, reverse.flip(1)), -1)", "torch.cat((y, reverse), -1)", "a sequence left turned round"),
    ("conversion/rewriting/batch_norms.py", 'if given["training"] is not False or learning["training"] is not True:', 'if given["training"] is not False or learning["training"] is not None:', "norms that never see a batch"),
    ("training/samples.py", "        with drawing_by(seed):\n", "        if True:\n", "items that draw from anybody's generator"),
    ("layers/patches.py", "whole[:, high, wide] += by_place[:, :, :, i, j]", "whole[:, high, wide] = by_place[:, :, :, i, j]", "pixels that hear of one patch alone"),
    ("conversion/building/counterparts.py", "operation.weight.movedim(1, -1).flatten(1)", "operation.weight.flatten(1)", "a convolution's weights in another order"),
    ("layers/patches.py", "spare % stride for spare", "0 for spare", "pixels that no patch begins at"),
    ("layers/convolution.py", "or context.clip is not None", "", "errors of convolutions go down before they are clipped"),
    ("layers/folded.py", "replayed(self._renew, patches, matrix, size)", "self._renew(patches, matrix, size)", "a recorded step keeps what direct feedback was"),
    ("layers/convolution.py", "if context.gathered is None:", "if True:", "a convolution that each of its places moves"),
    ("layers/steering.py", " if len(part.slot) > 1", "", "layers with one area are split"),
    ("areas/starts.py", "None if biases is None else biases.detach().to(weight)", "None if biases is None else weight.new_zeros(len(weight))", "biases that are not taken over"),
    ("layers/maps.py", "area_decay = decay + self.pooling", "area_decay = decay", "a forgotten pooling"),
    ("layers/maps.py", "follower.target(feedback_lr, decay)", "follower.target(lr, decay)", "feedback at the rate of others"),
    ("layers/maps.py", "follower.learn(delta, x, groups, feedback_lr, decay)", "pass", "feedback frozen with the shared part"),
    ("rates.py", "and self.shared > 0 and scale_free", "and scale_free", "slow areas beside what is frozen"),
    ("layers/maps.py", "feedback_lr * area_rate, area_decay", "feedback_lr, area_decay", "maps per area out of step"),
    ("layers/graph.py", "_add(errors, source, part)", "errors[source] = part", "branches of which one alone sends its error"),
    ("layers/graph.py", "of_node = gathering if name in late else context", "of_node = context", "a layer that each of its places moves"),
    ("layers/graph.py", "several | constants if several", "several if several", "constants that move before those that remember them"),
    ("kernels/groups.py", "self.bounds.new_zeros(self.rows) if self.area is None else self.area", "self.bounds.new_zeros(self.rows) if self.area is None else self.area.sort().values", "rows of several places in the areas of others"),
    ("network/composition.py", "return self._now() == self._before", "return True", "captured steps through parts that are gone"),
    ("network/unchanged.py", "if len(table) != count or get(table) != values:", "if False:", "captured steps by old settings"),
    ("recording/program.py", "others[place] = answer", "pass", "as many groups of rows as when it was recorded"),
    ("recording/program.py", "arguments[place] = value", "pass", "the rate of the step that was recorded"),
    ("recording/bindings.py", "if binding is not None and _equal(_heard(binding, arguments, keywords), wanted):", "if binding is not None:", "bindings that call another operation"),
    ("recording/recorder.py", "self.pieces[piece].used = len(self.calls)", "pass", "memory that is used again too early"),
    ("recording/recorder.py", "if not all(map(self._may_change, changed)):", "if False:", "tensors that nobody resets"),
    ("kernels/fusion.py", "if not before or uses[view.piece][-1] != number:", "if not before:", "a ReLU of what others read"),
    ("areas/slots.py", "self.shrunk += slots < len(self.value)", "pass", "areas that were given up, moved all the same"),
    ("layers/local.py", "y, scale = norm(x, _EPSILON)", "y, scale = x, norm(x, _EPSILON)[1]", "a norm that norms nothing"),
    ("layers/weights.py", "sum(parts[1:], parts[0])", "parts[0]", "a product that one of its places moves"),
    ("telemetry/alignment_of_errors.py", "errors = received[layer][::-1]", "errors = received[layer]", "errors of other places"),
    ("builders/parts.py", "part.gated = False", "pass", "gates on every map of a part"),
    ("layers/containers.py", "place, part.gated or not gated", "place, True", "routers that also learn from maps without a gate"),
    ("telemetry/alignment_of_errors.py", "float(size / true_size), float(size)", "float(true_size / size), float(size)", "the size of a gradient in units of the error"),
    ("telemetry/quiet_copy.py", "twin.clip = None", "pass", "errors that are looked at once they are clipped"),
    ("telemetry/conflict_of_classes.py", "(above < 0).sum()", "(above > 0).sum()", "classes that agree, counted as opposed"),
    ("streams/baselines.py", "self.squares.addmm_(h.t(), h)\n        self.discriminants = None", "self.squares.addmm_(h.t(), h)", "discriminants of the samples before"),
    ("streams/baselines.py", "alpha=1.0 / len(rows))", "alpha=1.0 / len(x))", "a mean of some samples, divided by the number of all"),
    ("bench/streams.py", "[(x[:, order], y)])", "[(x, y)])", "tasks that are judged by samples in another order of inputs"),
    ("bench/streams.py", "orders[:TUNED_ON] if case.trial else orders", "orders", "trials that see the end of a stream"),
    ("data/targets.py", "wide.std(0, correction=0)", "wide.std(0)", "a deviation that is not that of the targets"),
    ("estimator/base.py", "self._scaler.fit(samples.x[training], sample_weight=None if weight is None else weight[training])", "self._scaler.fit(samples.x, sample_weight=weight)", "inputs scaled by what is held out"),
    ("training/samples.py", "() if self.weight is None else (self.weight,)", "()", "a training that goes on with other weights, untold"),
    ("network/adjustable.py", "router.protected = before[name]", "pass", "protected areas that are refused and half set"),
    ("areas/starts.py", "float(weight.square().mean() * in_features) ** 0.5", "1.0", "feedback of another scale than the map that is given"),
    ("routing/router.py", "if self.feedback is not None and self.learned and lr:", "if self.feedback is not None and lr:", "feedback that moves away from a fixed projection"),
    ("training/trainer.py", "self.earlier + progress.epoch", "progress.epoch", "calls of partial_fit that are all watched"),
    ("updates/muon.py", "ahead.lerp_(velocity, self.momentum).flatten(1)", "velocity.flatten(1)", "no look ahead"),
    ("updates/rule.py", "and torch.equal(before, given)", "", "the change of other weights"),
    ("updates/muon.py", "gram = once @ gram @ once", "gram = once @ gram", "another polynomial"),
    ("updates/muon.py", "math.sqrt(max(change.shape))", "math.sqrt(min(change.shape))", "steps of another size"),
    ("updates/optimizer.py", 'group["lr"], group["weight_decay"])', 'group["lr"], 0.0)', "an optimiser that forgets the decay"),
    ("layers/constant.py", "self.slab.move(gradient, lr, 0.0)", "self.slab.move(gradient, lr, self.slab.update_rule.decay)", "factors that decay"),
    ("conversion/steps/provenance.py", "if opaque or spectral or (product and not (node in self.live and is_real(values[node]))):", "if False:", "errors that go down through parameters"),
    ("conversion/steps/provenance.py", "if isinstance(value, tuple | list | Mapping):", "if False:", "weights that tuples hide"),
    ("conversion/steps/provenance.py", "if isinstance(value, tuple | list | Mapping):", "if isinstance(value, tuple | list):", "inputs by name that pass for no numbers"),
    ("conversion/steps/products.py", "and leads_to(function, given, at)]", "]", "what tells a product what to do, taken for its value"),
    ("conversion/equality.py", "torch.backends.mha.set_fastpath_enabled(False)", "pass", "padding that an encoder returns as 0 at inference alone"),
    ("conversion/building/folding.py", "    readers.update(parts_in(computation.outputs))\n", "", "an output that is folded away"),
    ("layers/graph.py", "_add(errors, name, part)\n", "errors[name] = part\n", "an output that is returned twice, and learns once"),
    ("losses/error.py", "in_form_of(leaf, errors)", "in_form_of(leaf, errors[:1] * len(errors))", "outputs that get the error of the first"),
    ("conversion/building/norms.py", "addcmul_(apart, -of_along)", "addcmul_(apart, of_along)", "errors along what a norm took away"),
    ("areas/area_map.py", "if not lr:", "if False:", "moments of frozen areas"),
    ("routing/router.py", "x, delta = counted(weights_of_rows(weight, len(x)), x, delta)", "pass", "projections that count every sample once"),
    ("conversion/steps/products.py", "if not is_linear_in_both(lambda x, weights: product(x, weights, *besides), came, weight):", "if False:", "products that are not linear in their weights"),
    ("conversion/steps/rows.py", "if more or not rows or not lie_by_samples:", "if more or not rows:", "rows in another order"),
    ("conversion/following/derivatives.py", "node.meta[WITHOUT_ERROR] = True", "pass", "errors through blocks without gradients"),
    ("conversion/following/derivatives.py", "return came.tracer.create_proxy(\"call_function\", OwnDerivative(function), args, kwargs)", "return super(base, function).apply(*args, **kwargs)", "derivatives of the operations inside of a function"),
    ("conversion/rewriting/in_place.py", "WITHOUT_ERROR in node.meta and WITHOUT_ERROR not in written.meta", "False", "writes that errors would go through"),
    ("conversion/steps/walk.py", "node.meta.pop(WITHOUT_ERROR, None)", "pass", "errors that end where nothing was computed"),
    ("conversion/convertible.py", "any(of_weights) or any(of_values)", "any(of_values)", "hooks of weights that are lost"),
    ("training/progress.py", "self.loss_sum += loss * batch_weight", "self.loss_sum += loss", "an epoch's loss in which batches of all weights count alike"),
    ("training/scoring.py", "counts &= heavy", "counts |= heavy", "samples without weight that are scored"),
    ("training/scoring.py", "target.reshape(right.shape) != ignored", "target.reshape(right.shape) != 0", "padding that is scored"),
    ("losses/targets.py", "flattened = target.ndim != output.ndim and output.ndim < 4", "flattened = True", "images in another order as targets"),
    ("estimator/scaling.py", "np.where(self._lowest < self._highest, deviation, 1.0)", "np.where(self.var_ > 1e-4, deviation, 1.0)", "columns that vary little taken for constants"),
    ("conversion/rewriting/in_place.py", "if later and other is not written and in_one_memory(", "if False and in_one_memory(", "writes through views"),
    ("conversion/following/answering.py", "if node in walks.ragged or (node in walks.numbers and ask is not len):", "if node in walks.numbers and ask is not len:", "sizes that depend on numbers"),
    ("conversion/steps/walk.py", "self.provenance.moved.issuperset(read)", "True", "weights beside values in a module"),
    ("conversion/rewriting/training_mode.py", "if name not in others]", "]", "modules of tensors that the network holds, kept whole"),
    ("conversion/following/answering.py", "if ask is len else walks.counts(node)", "if ask is len else False", "decisions by the number of samples"),
    ("conversion/building/counterparts.py", 'parts = replace(parts, areas=1, routing="network")', "pass", "a route where there is no sample"),
    ("layers/weights.py", "matrix = matrix_of(self.feedback, self.one_map)", "matrix = self.one_map", "forward weights in the place of feedback"),
    ("layers/weights.py", "follower.move(gradient, feedback_lr", "follower.move(gradient, lr", "feedback at the rate of forward weights"),
    ("layers/weights.py", "weight.to(computing(weight.dtype))", "weight.to(x.dtype)", "gradients of another kind than weights"),
    ("conversion/steps/walk.py", "if self.uses[id(weight)] > 1:", "if False:", "shared weights that come apart"),
    ("conversion/steps/walk.py", "unshared = id(weight) not in self.of_modules", "unshared = True", "weights that a module holds too"),
    ("conversion/steps/products.py", "functional.linear(a, drawn)", "functional.linear(a, drawn) * 0 + y", "any product taken for its matrix"),
    ("conversion/rewriting/ties.py", "if node in moved or node.op in", "if node.op in", "uses of a parameter that nobody counts"),
    ("conversion/nodes.py", "(node.target not in LIKE or node.args[:1] == (read,))", "True", "weights that pass for values"),
    ("conversion/nodes.py", "return set().union(*map(_places_of, value))", "return set()", "views in tuples"),
    ("conversion/following/alone.py", "_meaning(several, root, sample) ==", "True or", "one sample treated otherwise"),
    ("conversion/following/values.py", "return node in self._one.of and ask", "return False and ask", "questions that only one sample answers otherwise"),
    ("conversion/following/answering.py", "if any(order[user] > order[after] for user in readers):", "if False:", "writes that others see"),
    ("conversion/rewriting/in_place.py", "user.replace_input_with(written, node)", "pass", "writes that are lost"),
    ("conversion/to_torch.py", "(count >> shift) % (1 << BITS)", "count % (1 << BITS)", "places told by one digit"),
    ("conversion/to_torch.py", "flat = tensor.flatten().clone()", "flat = torch.zeros_like(tensor).flatten()", "a part of a tensor that loses the others"),
    ("conversion/building/counterparts.py", "part.frozen_here = True", "pass", "frozen layers that learn"),
    ("layer/context.py", "            return 0.0\n", "            return 1.0\n", "a rate for what is frozen"),
    ("conversion/steps/walk.py", "return replace(step, batch_second=True)", "return step", "samples that lie second, taken for steps"),
    ("conversion/steps/rows.py", "bool((came == came[:1]).all())", "False", "rows behind weights of 0"),
    ("conversion/building/body.py", "if computation.is_of_one_shape or computation.asked is not None:", "if False:", "steps that an unrolled layer leaves out"),
    ("conversion/following/questions.py", "if found is None or found == self._answers:", "if True:", "decisions by sizes that hold for all others"),
    ("conversion/following/answering.py", "self._asked[node, ask] = answers[0], walks.counts(node)", "self._asked[node, ask] = answers[0], False", "numbers of samples that nobody looks at again"),
    ("conversion/following/answering.py", "return self.answer(proxy.node, hash) if is_size else id(proxy)", "return id(proxy)", "sizes that no set holds"),
    ("conversion/kept.py", "if name in watching.written or now.get(name) is not parameter or parameter.data_ptr() != place.data_ptr():", "if False:", "writes into parameters that are lost"),
    ("conversion/kept.py", "if not same:", "if False:", "what is kept from call to call and lost"),
    ("conversion/kept.py", "self.statistics.add(part.data_ptr())", "pass", "statistics of norms taken for memories"),
    ("conversion/building/sizes.py", "if learning and not self.asked.allow_learning(of_samples):", "if False:", "decisions by sizes in training mode alone"),
    ("conversion/steps/functions.py", "del type(self).__call__", "pass", "errors that torch.fx prints"),
    ("conversion/tracing.py", "training, generator_states() != before)", "training, False)", "layers that a draw leaves out, unless it does so here"),
    ("conversion/following/kinds.py", "return is_followed()", "return True", "networks that do something else while they are followed"),
    ("conversion/following/answering.py", "behind_jump = following[1:2]", "behind_jump = following", "decisions by numbers that pass for assertions"),
    ("conversion/following/tracers.py", "return not shows and (stops", "return (stops", "forwards of maps of their own"),
    ("conversion/rewriting/in_place.py", "not in silent:", "not in numbers:", "whole numbers that nobody may write into"),
    ("conversion/steps/lengths.py", "(ours is None) == (theirs is None) and (", "(", "networks that take other lengths than their bodies"),
    ("conversion/building/counterparts.py", "if step.rows_per_sample > 1 and parts.routed:", "if False:", "rows of several samples under one route"),
    ("layer/layer.py", "            part.frozen_here = frozen", "            self.frozen_here = frozen", "layers inside that are not frozen"),
    ("routing/recruiting.py", "        return True\n", "        return False\n", "a router that recruits and is not frozen"),
    ("feedback/checked.py", "if of_error is not of_matrix and issubclass(of_error, of_matrix):", "if False:", "errors of a path of one's own that nobody asks for"),
    ("telemetry/use_of_areas.py", "choices[name][calls[name]].append(output.area)", "choices[name][0].append(output.area)", "calls of a router in the order of batches"),
    ("layers/recurrent.py", "return context._replace(weight=weight[:, step])", "return context._replace(weight=None)", "steps without weights that recruit"),
    ("conversion/following/kinds.py", "return issubclass(getattr(value, STANDS_FOR, type(value)), kinds)", "return False", "modules that deny what they stand for"),
    ("areas/starts.py", "found.addmm_(answer(x).t(), x, alpha=1.0 / samples)", "found.addmm_(answer(x).t(), x)", "a mirror that magnifies"),
    ("conversion/building/counterparts.py", "shift = -gain * mean", "shift = gain * mean", "a batch norm with its mean turned"),
    ("layers/containers.py", "self.hand_over(route, context)", "self.move([route], context)", "a router that each of its places moves"),
    ("layers/containers.py", "error_through(self.body, trace, self.alpha * error, context)", "error_through(self.body, trace, error, context)", "a forgotten alpha"),
    ("layers/containers.py", "None if through is None or around is None else around + through", "None if through is None or around is None else through", "no residual error"),
    ("feedback/kolen_pollack.py", "signal.groups, lr, shared_decay)", "signal.groups, lr, 0.0)", "feedback without decay"),
    ("feedback/forward_weights.py", "return below.mul_(self.magnitude)", "return below.mul_(-self.magnitude)", "signs turned"),
    ("feedback/least_change.py", "torch.where(size > 0, wanted / size, 0.0)", "torch.where(size > 0, (wanted / size).sqrt(), 0.0)", "a change that is not the least"),
    ("routing/conflict.py", "against, pairs = -float(sum_1 @ sum_2)", "against, pairs = abs(float(sum_1 @ sum_2))", "agreement taken for conflict"),
    ("routing/conflict.py", "self._parted(divided)", "self._parted(partition)", "partings of areas that are divided already"),
    ("routing/conflict.py", "self.pull.index_add_(0, cell, own)", "self.pull.index_add_(0, cell.flip(0), own)", "pulls of other cells"),
    ("kernels/numbers.h", "lanes + Lane : Lane + Distance", "lanes + Lane : Lane", "lanes that stay where they were"),
    ("kernels/products.h", "x + row * depth + i", "x + row * depth", "the first terms of a sum again"),
    ("kernels/forward.h", "+ (bias ? bias[o + k] : C(0))", "+ (bias ? bias[o] : C(0))", "the bias of another output"),
    ("kernels/forward.h", "to[k] = bias ? bias[o + k] : C(0)", "to[k] = C(0)", "no bias where rows are many"),
    ("kernels/forward.h", "to[o] += from[o]", "to[o] += from[item.begin]", "what stands beside another output"),
    ("kernels/error.h", "lay_out<V>(weight + (o + k) * inputs + i", "lay_out<V>(weight + k * inputs + i", "the weights of other outputs"),
    ("kernels/groups.py", "return Groups.of(self.of_rows, self.areas, self.apart.union(areas))", "return self", "protected areas that move"),
    ("kernels/groups.py", "Groups.of(self.of_rows, self.areas) if self.apart else self", "self", "products that leave rows out"),
    ("kernels/update.h", "anchored(from[r] + i)", "anchored(from[r])", "the inputs of the first tile"),
    ("kernels/update.h", "outputs + begin + o;", "outputs + begin;", "the delta of another output"),
    ("kernels/update.h", "errors[r] = delta + groups.row(first + r) * outputs", "errors[r] = delta + (first + r) * outputs", "the deltas of other rows"),
    ("kernels/update.h", "lay_out<vectors>(x + groups.row(first + k) * inputs", "lay_out<vectors>(x + groups.row(k) * inputs", "the inputs of other rows, where rows are many"),
    ("kernels/update.h", "load(gradient + r * stride + v * lanes)", "Vector<C>{}", "the last panel of rows alone"),
    ("kernels/moves.h", "kept = keep * load(weights + i, here)", "kept = load(weights + i, here)", "no decay"),
    ("kernels/numbers.h", "uint32_t(further) * kHash", "kHash", "the same random bits for all vectors of a stretch"),
    ("kernels/numbers.h", "from == from ? bits + noise : bits", "bits + noise", "a number in place of none"),
    ("kernels/update.h", "{sums, here, stride, inputs, item.end - item.begin}", "{sums, here, stride, inputs, std::min(item.end - item.begin, kWidth<X>)}", "the first block of a panel alone"),
    ("kernels/update.h", "blocks + i / width * width * rows + i % width", "blocks + i * rows", "the wrong part of a block"),
    ("kernels/moves.h", "double(++target.steps", "double(target.steps", "steps that are not counted"),
    ("kernels/moves.h", "rest2 * g * g", "rest2 * g", "a second moment without a square"),
    ("kernels/gate.h", " / square[r];", ";", "a cosine without its norm"),
    ("kernels/gate.h", "sums[0] += load(p + c, cells - c);", "sums[0] += load(p + c);", "a softmax over cells that do not exist"),
    ("kernels/exponential.h", " - n * low;", ";", "an exponential to another base"),
    ("kernels/cells.h", "f * load(c_before + at, left) + i * g", "f * load(c_before + at, left) + i", "a state without its new part"),
    ("kernels/cells.h", "below + row * stride + number * units + unit, left) +", "below + first + number * units, left) +", "a step of another place in a sequence"),
    ("kernels/exponential.h", "return unless_nan<V>(x, x < 0 ? -y : y);", "return x < 0 ? -y : y;", "a number in place of none, in a cell"),
    ("kernels/nearest.h", "cell[lane] < cell[first]", "cell[lane] > cell[first]", "the last of equals"),
    ("kernels/loss.h", "(error[c] / sum - even)", "(error[c] / sum)", "smoothing that is forgotten"),
]  # fmt: skip


CAPTURED = ("recording/", "network/composition.py", "network/unchanged.py", "kernels/fusion.py", "areas/slots.py")
"""Files whose faults captured steps show: without compiled kernels there are none."""


OTHERS = {
    "bench": ["bench"],
    "conversion": ["oracles/conversion", "oracles"],
    "data": ["data"],
    "estimator": ["estimator"],
    "losses": ["test_losses.py", "oracles/several"],
    "streams": ["test_streams.py"],
    "telemetry": ["test_telemetry.py", "bench/test_measures.py", "oracles"],
    "training": ["training"],
}
"""The tests of parts that are no matter of all oracles alike."""


BRIEF = ["--hypothesis-profile=brief", "-p", "no:cacheprovider"]
"""One failure is enough, as it was drawn, and nothing is remembered of it."""


SOONEST = {
    "update.h": ["kernels/test_updates.py"],
    "moves.h": ["kernels/test_updates.py"],
    "gate.h": ["kernels/test_per_row.py"],
    "nearest.h": ["kernels/test_per_row.py"],
    "loss.h": ["kernels/test_per_row.py"],
    "cells.h": ["kernels/test_cells.py"],
    "exponential.h": ["kernels/test_cells.py"],
}
"""The tests of the kernels that find a fault in a header first; those of products for all others."""


def tests_for(file: str) -> list[str]:
    """The tests that must find a fault in a file, the likeliest first: the oracles, unless it is no matter of theirs."""
    if file.endswith(".h"):
        paths = [*SOONEST.get(Path(file).name, ["kernels/test_products.py"]), "kernels"]
    elif file.startswith(CAPTURED):
        paths = ["test_recording.py", "oracles/captured", "oracles"]
    else:
        paths = OTHERS.get(file.split("/")[0], ["oracles"])
    found = [Path(__file__).parent / path for path in paths]
    files = (one for path in found for one in ([path] if path.is_file() else sorted(path.rglob("test_*.py"))))
    return [str(one) for one in dict.fromkeys(files)]  # of a folder pytest would choose the order itself


def main() -> int:
    """Prints a line per mutant."""
    survivors, wanted = 0, sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not wanted or any(part in mutant[0] for part in wanted)]
    with tempfile.TemporaryDirectory() as place:
        for file, old, new, why in mutants:
            copy = Path(place) / "src"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(ROOT / "src", copy)
            target = copy / "brodmann" / file
            text = target.read_text()
            if text.count(old) != 1:
                print(f"{file}: expected this text exactly once, found it {text.count(old)} times: {old}")
                return 2
            target.write_text(text.replace(old, new))
            compiled = file.endswith(".h")
            command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", *BRIEF, *tests_for(file)]
            # The kernels would do the work of the mutated Python.
            if compiled:
                switches = {"BRODMANN_CACHE": place}
            else:
                switches = {} if file.startswith(CAPTURED) else {"BRODMANN_KERNELS": "off"}
            environment = {**os.environ, "PYTHONPATH": str(copy), **switches}
            run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            # A failed test (1) is a kill, and so is a crash (below 0). A syntax error would stop the collection (2).
            killed = run.returncode == 1 or run.returncode < 0
            survivors += not killed
            print(f"{'killed  ' if killed else 'SURVIVED'}  {file}: {why}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
