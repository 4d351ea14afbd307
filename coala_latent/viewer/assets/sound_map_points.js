"use strict";
// Draws the points: by WebGL 2 in one call, or on the processor where there is none. Both take the
// same positions, colours (red, green, blue and weight: 255 plain, less is faint, 0 hidden) and view.
const soundMapPoints = (() => {
  const VERTEX = `#version 300 es
    in vec2 before; in vec2 after; in vec4 color;
    uniform vec2 center, scale; uniform float size, moved;
    out vec4 shade;
    void main() {
      vec2 place = (mix(before, after, moved) - center) * scale;
      gl_Position = color.a == 0.0 ? vec4(2.0, 2.0, 2.0, 1.0) : vec4(place, 0.0, 1.0);
      gl_PointSize = color.a < 0.9 ? max(2.0, size * 0.75) : size;
      shade = color;
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec4 shade; uniform float size, opacity, rim; uniform vec3 ground;
    out vec4 result;
    void main() {
      float far = length(gl_PointCoord * 2.0 - 1.0);
      float soft = min(1.0, 2.6 / size);
      float cover = 1.0 - smoothstep(1.0 - soft, 1.0, far);
      // A thin edge in the colour of the ground keeps points that overlap apart.
      vec3 inner = mix(shade.rgb, ground, rim * smoothstep(0.72, 0.86, far));
      float alpha = cover * shade.a * mix(opacity, 1.0, rim * smoothstep(0.7, 0.8, far));
      result = vec4(inner * alpha, alpha);
    }`;

  // The same order every time, in which no class lies on top of the others.
  const shuffled = (count) => {
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    let state = 12345;
    for (let i = count - 1; i > 0; i--) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const j = Math.floor(state / 4294967296 * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  };

  // Those that are in the back (1) first; `mixed` order within.
  const behind = (mixed, back, order) => {
    let at = 0;
    for (const i of mixed) if (back[i]) order[at++] = i;
    for (const i of mixed) if (!back[i]) order[at++] = i;
    return order;
  };

  // Some browsers report no performance caveat for WebGL that runs on the processor.
  const inSoftware = (gl) => {
    const about = gl.getExtension("WEBGL_debug_renderer_info");
    const name = gl.getParameter(about ? about.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
    return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
  };

  const build = (gl, kind, source) => {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    return shader;
  };

  const withWebgl = (canvas, order, arrange, software) => {
    const gl = canvas.getContext("webgl2",
      { alpha: false, antialias: false, depth: false, failIfMajorPerformanceCaveat: !software });
    if (!gl || (!software && inSoftware(gl))) return null;
    let uniforms, buffers;
    const kept = { before: null, after: null, color: null };

    const attribute = (program, name, size, type, normalised) => {
      const buffer = gl.createBuffer(), location = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(location);
      gl.vertexAttribPointer(location, size, type, normalised, 0, 0);
      return buffer;
    };
    const fill = (name, values) => {
      kept[name] = values;
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    };
    const prepare = () => {
      const program = gl.createProgram();
      gl.attachShader(program, build(gl, gl.VERTEX_SHADER, VERTEX));
      gl.attachShader(program, build(gl, gl.FRAGMENT_SHADER, FRAGMENT));
      gl.linkProgram(program);
      if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return false;
      gl.useProgram(program);
      buffers = {
        before: attribute(program, "before", 2, gl.FLOAT, false),
        after: attribute(program, "after", 2, gl.FLOAT, false),
        color: attribute(program, "color", 4, gl.UNSIGNED_BYTE, true),
      };
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
      uniforms = Object.fromEntries(["center", "scale", "size", "moved", "opacity", "rim", "ground"]
        .map((name) => [name, gl.getUniformLocation(program, name)]));
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      for (const [name, values] of Object.entries(kept)) if (values) fill(name, values);
      return true;
    };
    if (!prepare()) return null;
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      prepare();
      canvas.dispatchEvent(new Event("restored"));
    });

    return {
      kind: "WebGL 2",
      positions: (before, after) => { fill("before", before); fill("after", after); },
      colors: (values, back) => {
        fill("color", values);
        gl.bufferSubData(gl.ELEMENT_ARRAY_BUFFER, 0, arrange(back));
      },
      draw: ({ center, scale, size, opacity, rim, ground, moved }) => {
        gl.viewport(0, 0, canvas.width, canvas.height);
        gl.clearColor(...ground.map((value) => value / 255), 1);
        gl.clear(gl.COLOR_BUFFER_BIT);
        gl.uniform2f(uniforms.center, center[0], center[1]);
        gl.uniform2f(uniforms.scale, 2 * scale / canvas.width, 2 * scale / canvas.height);
        gl.uniform1f(uniforms.size, size);
        gl.uniform1f(uniforms.moved, moved);
        gl.uniform1f(uniforms.opacity, opacity);
        gl.uniform1f(uniforms.rim, rim);
        gl.uniform3f(uniforms.ground, ...ground.map((value) => value / 255));
        gl.drawElements(gl.POINTS, order.length, gl.UNSIGNED_INT, 0);
      },
    };
  };

  // WebGL that is software is refused, unless it is asked for by `?renderer=webgl`. A canvas that was
  // asked for one kind of context gives no other, hence the fresh one.
  const on = (canvas, count) => {
    const mixed = shuffled(count), order = mixed.slice();
    const arrange = (back) => behind(mixed, back, order);
    const asked = new URLSearchParams(location.search).get("renderer");
    const gpu = asked === "processor" ? null : withWebgl(canvas, order, arrange, asked === "webgl");
    if (gpu) return { canvas, ...gpu };
    const fresh = canvas.cloneNode();
    canvas.replaceWith(fresh);
    return { canvas: fresh, ...soundMapRaster.on(fresh, arrange) };
  };
  return { on };
})();
